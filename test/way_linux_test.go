package test

import (
	"os"
	"strings"
	"testing"
)

func TestIPv6ReachesRelayAndTarget(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	through := l.through(t, settings{"relay": `"[2001:db8:51::10]:7422"`})
	for _, host := range []string{targetIP6, targetIP} {
		p := l.ssh(t, through, host, "echo $SSH_CONNECTION")
		p.wait(0)
		if got := p.stdout.String(); !strings.Contains(got, " "+host+" 22\n") {
			t.Errorf("sshd says %q, want a connection to %s", got, host)
		}
		l.quiet(t, p)
	}
}

// Only the relay knows the name: the client's resolver is not asked.
func TestTheRelayResolvesTheTargetsName(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	p := l.ssh(t, l.through(t, nil), targetName, "echo $SSH_CONNECTION")
	p.wait(0)
	if got := p.stdout.String(); !strings.Contains(got, " "+targetIP+" 22\n") {
		t.Errorf("sshd says %q, want a connection to %s", got, targetIP)
	}
	l.quiet(t, p)
}

// The flags alone do, without a configuration file.
func TestFlagsAreEnough(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	// Where a person has the files by default.
	ssh, config := l.path("home/.ssh"), l.path("home/.config/sshka")
	l.check(os.MkdirAll(ssh, 0o700))
	l.check(os.MkdirAll(config, 0o700))
	l.check(os.Link(l.path("user"), ssh+"/id_ed25519"))
	l.check(os.Link(l.path("known_relays"), config+"/known_relays"))
	proxy := "-oProxyCommand=" + program(t, "sshka-proxy") + " --relay " + relayIP + " --interval 1s %h %p"
	p := l.ssh(t, proxy, targetIP, "echo here")
	p.wait(0)
	if got := p.stdout.String(); got != "here\n" {
		t.Errorf("got %q", got)
	}
	l.quiet(t, p)
}

func TestRelayDirectSurvivesIdlingByItself(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.setNAT(nat, silent, natIdle)
	p := l.ssh(t, l.through(t, settings{"relay": "direct"}), relayIP, "cat")
	p.send("before\n")
	p.expect("before")
	idle(bareIdle)
	p.send("after\n")
	p.expect("after")
	p.stdin.Close()
	p.wait(0)
	l.quiet(t, p)
}

func TestFallbackDirectSaysSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	// Nothing listens on the relay's port, but an sshd on the same address.
	p := l.ssh(t, l.through(t, settings{"fallback": "direct"}), relayIP, "echo here")
	p.wait(0)
	if got := p.stdout.String(); got != "here\n" {
		t.Errorf("got %q", got)
	}
	if line := oneLine(t, p); !strings.Contains(line, "direct") {
		t.Errorf("%q does not say that the connection is direct", line)
	}
}

// read returns a file of the lab.
func (l *lab) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(l.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
