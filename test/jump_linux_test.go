package test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// configWith writes the lab's ssh_config behind blocks of its own, as a person has
// them: for each option the first value counts.
func (l *lab) configWith(t *testing.T, name, blocks string) string {
	t.Helper()
	return l.write(name, blocks+l.read(t, "ssh_config"))
}

// A jump host that is reached through sshka-proxy leads further, and the connection
// behind it outlives the NAT that forgets, as the jump does.
func TestAJumpHostLeadsFurther(t *testing.T) {
	t.Parallel()
	proxy := program(t, "sshka-proxy")
	for _, tt := range []struct {
		name  string
		jump  role     // an sshd on its loopback, beside the one that every lab has
		allow string   // of the relay
		block string   // of ssh_config: the jump host's
		args  []string // how ssh is told to jump
		last  string   // the host behind it
	}{
		{
			name: "the relay beside the jump host", jump: relay, allow: `["localhost:22"]`,
			block: "Host jump\n\tHostName " + relayIP + "\n\tProxyCommand " + proxy + " --config %s --relay %%h localhost %%p\n",
			args:  []string{"-J", "jump"}, last: targetIP,
		},
		{
			name: "the jump host behind the relay", jump: target, allow: `["10.99.0.0/24:22"]`,
			block: "Host jump\n\tHostName " + targetIP + "\n\tProxyCommand " + proxy + " --config %s %%h %%p\nHost " + loopbackIP + "\n\tProxyJump jump\n",
			last:  loopbackIP,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.setNAT(nat, silent, natIdle)
			l.startSSHD(tt.jump, loopbackIP)
			l.startRelay(t, relayPort, settings{"allow": tt.allow})
			config := l.configWith(t, "jump_config", fmt.Sprintf(tt.block, l.proxyConfig(nil)))
			p := l.start(t, client, "ssh", append([]string{"-F", config}, append(tt.args, tt.last, "echo $SSH_CONNECTION; cat")...)...)
			p.expect(" " + tt.last + " 22\n")
			idle(daemonIdle)
			p.send("after\n")
			p.expect("after")
			p.stdin.Close()
			p.wait(0)
			l.quiet(t, p)
		})
	}
}

// The commands of docs/jump-host.md, run as they stand there, tell by whose key a login
// came, and how much each key has used. To sshd all logins come from one address.
func TestTheLogsOfRelayAndSSHDAreJoined(t *testing.T) {
	t.Parallel()
	needTools(t, "awk")
	l := newLab(t)
	sshd := l.startSSHD(relay, loopbackIP)
	r := l.startRelay(t, relayPort, settings{"allow": `["localhost:22"]`})
	through := l.through(t, nil)
	config := []string{"-F", l.path("ssh_config")}
	for _, login := range []struct {
		from role
		args []string
	}{
		{client, []string{through, "localhost"}},
		{relay, []string{loopbackIP}}, // not by the relay, and from the same address
		{client, []string{through, "localhost"}},
	} {
		p := l.start(t, login.from, "ssh", slices.Concat(config, login.args, []string{"true"})...)
		p.wait(0)
		l.quiet(t, p)
	}
	for p, want := range map[*process]struct {
		text  string
		times int
	}{sshd: {"Accepted publickey", 3}, r: {`"msg":"session ended"`, 2}} {
		for deadline := time.Now().Add(patience); strings.Count(p.stderr.String(), want.text) < want.times; {
			if p.endsWithin(20*time.Millisecond) || time.Now().After(deadline) {
				t.Fatalf("%s does not log %q %d times; %s", p.name, want.text, want.times, p.state())
			}
		}
	}
	l.write("relay.log", r.stderr.String())
	l.write("sshd.log", sshd.stderr.String())

	join := l.shown(t, "\n## Whose login was that?\n")
	lines := strings.Split(strings.TrimSpace(join), "\n")
	if len(lines) != 4 {
		t.Fatalf("it finds\n%s\nwant two logins, with the relay's line below each", join)
	}
	for i, line := range lines {
		want := "Accepted publickey for root from " + loopbackIP
		if i%2 == 1 {
			want = `"key":"` + l.printOf(t, "user.pub") + `"`
		}
		if !strings.Contains(line, want) {
			t.Errorf("line %d is %q, want %q in it", i+1, line, want)
		}
	}
	count := l.shown(t, "\n### Accounting by key\n")
	if want := l.printOf(t, "user.pub") + " 2 sessions "; !strings.HasPrefix(count, want) || strings.Count(count, "\n") != 1 {
		t.Errorf("the sessions by key are %q, want %q", count, want)
	}
}

// shown runs the awk command that docs/jump-host.md shows below a heading, where
// the lab's files are, and returns what it says.
func (l *lab) shown(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/jump-host.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), heading)
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	_, command, ok := strings.Cut("\n"+block, "\nawk ")
	if !ok {
		t.Fatalf("docs/jump-host.md shows no awk below %q", heading)
	}
	p := l.startWith(t, relay, func(cmd *exec.Cmd) { cmd.Dir = l.dir }, "sh", "-euc", "awk "+command)
	p.wait(0)
	return p.stdout.String()
}

// What an sshd grants to those at its own machine, by loopback, need not be granted
// to those who come by the relay.
func TestTheRelaysUsersNeedNotBeLocalOnes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startSSHD(relay, loopbackIP)
	l.startRelay(t, relayPort, settings{"allow": `["` + relayIP + `:22"]`})
	through := l.through(t, nil)
	p := l.ssh(t, through, relayIP, "echo $SSH_CONNECTION")
	p.wait(0)
	if got := p.stdout.String(); !strings.HasPrefix(got, relayIP+" ") || !strings.HasSuffix(got, " "+relayIP+" 22\n") {
		t.Errorf("sshd says %q, want a connection from and to %s", got, relayIP)
	}
	l.quiet(t, p)
	for _, host := range []string{"localhost", loopbackIP} {
		p := l.ssh(t, through, host, "true")
		p.wait(255)
		if line := oneLine(t, p); !strings.Contains(line, host+":22 is not allowed by relay") {
			t.Errorf("%s: %q, want it not allowed", host, line)
		}
	}
}
