package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// natIP is where the client's connections come from.
const natIP = "203.0.113.2"

// initLab is a lab whose relay host has a home of its own, without a relay: ssh works,
// and the client's user has a key that it lists.
func initLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	there := l.path("there")
	for _, dir := range []string{l.path("home/.ssh"), filepath.Join(there, ".ssh")} {
		l.check(os.MkdirAll(dir, 0o700))
	}
	l.write("home/.ssh/id_ed25519", l.read(t, "user"))
	l.write("home/.ssh/config", l.read(t, "ssh_config"))
	l.write("there/.ssh/authorized_keys", l.read(t, "user.pub"))
	passwd := filepath.Join(netnsEtcDir, l.ns(relay), "passwd")
	text, err := os.ReadFile(passwd)
	l.check(err)
	l.check(os.WriteFile(passwd, []byte(strings.ReplaceAll(string(text), ":"+l.path("home")+":", ":"+there+":")), 0o600)) // the same file: it is mounted
	// What is started there ends with the namespace.
	return l
}

// init runs sshka-proxy init --install for the relay's host.
func (l *lab) init(t *testing.T, args ...string) *process {
	t.Helper()
	return l.start(t, client, program(t, "sshka-proxy"), append([]string{"init", "--install"}, args...)...)
}

// sshBlocks are the Host blocks among what init printed.
func sshBlocks(t *testing.T, p *process) string {
	t.Helper()
	text, _, found := strings.Cut(p.stdout.String(), "# PuTTY")
	_, text, foundToo := strings.Cut(text, "# OpenSSH")
	if !found || !foundToo {
		t.Fatalf("no blocks in %q", p.stdout)
	}
	return "# OpenSSH" + text
}

// From an ssh that works to one that lives: nothing but init, and what it prints.
func TestInitInstallsARelayByTheSSHThatWorks(t *testing.T) {
	t.Parallel()
	l := initLab(t)
	first := l.init(t, "root@"+relayIP, "--allow", "10.99.0.0/24:22", "--allow", targetName+":22")
	first.waitWithin(2*patience, 0)
	for n, words := range []string{
		"ssh root@" + relayIP + " works: Linux ", "~/.local/bin/sshka-relay ", "~/.config/sshka/relay.yaml is written: it allows localhost:22, 10.99.0.0/24:22, " + targetName + ":22",
		"the relay runs, without a service manager: it does not come back after a reboot", "SHA256:", "the way is free: a session to the host's own sshd",
	} {
		if want := fmt.Sprintf("%d/7 %s", n+1, words); !strings.Contains(first.stderr.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	known := l.read(t, "home/.config/sshka/known_relays")
	if got := strings.Fields(known); len(got) != 2 || got[0] != relayIP+":7422" || !strings.Contains(first.stderr.String(), got[1]) {
		t.Errorf("recorded %q", known)
	}

	// What it printed, above all that was there. This sshd does not listen on loopback.
	l.write("home/.ssh/config", sshBlocks(t, first)+l.read(t, "ssh_config"))
	for host, at := range map[string]string{relayIP: relayIP, targetName: targetIP} {
		p := l.start(t, client, "ssh", host, "echo $SSH_CONNECTION")
		p.wait(0)
		if got := strings.TrimSpace(p.stdout.String()); !strings.HasSuffix(got, " "+at+" 22") || strings.HasPrefix(got, natIP) {
			t.Errorf("%s: sshd says %q, want a connection from the relay to %s", host, got, at)
		}
		l.quiet(t, p)
	}

	// Again: it asks around what it has set up, and changes nothing.
	before := l.read(t, "home/.config/sshka/config.yaml") + known + l.read(t, "there/.config/sshka/relay.yaml") + l.read(t, "there/.local/state/sshka/relay_key")
	second := l.init(t, "root@"+relayIP)
	second.waitWithin(2*patience, 0)
	if want := "runs there and is not touched"; !strings.Contains(second.stderr.String(), want) {
		t.Errorf("%q is missing", want)
	}
	after := l.read(t, "home/.config/sshka/config.yaml") + l.read(t, "home/.config/sshka/known_relays") +
		l.read(t, "there/.config/sshka/relay.yaml") + l.read(t, "there/.local/state/sshka/relay_key")
	if after != before {
		t.Errorf("the second run has changed something:\n%s\n%s", before, after)
	}
}

// One thing is in the way, and the last step says which: a packet that is dropped, one
// that is refused, and a relay that is not there are told apart. Then init goes on.
func TestInitTellsAFilteredPortFromAClosedOne(t *testing.T) {
	t.Parallel()
	l := initLab(t)
	l.startSSHD(relay, loopbackIP)
	firewall := func(verdict string) {
		l.check(runIn(l.ns(relay), "table inet fw\nflush table inet fw\ntable inet fw { chain in { type filter hook input priority filter; tcp dport 7422 "+verdict+"; }; }\n", "nft", "-f", "-"))
	}
	for _, tt := range []struct{ verdict, says string }{
		{"drop", "TCP 7422 is filtered (no answer), though the relay listens on it at " + relayIP + "; suspects: nftables on " + relayIP + ": "},
		{"reject with tcp reset", "TCP 7422 is closed (connection refused), though the relay listens on it at " + relayIP + "; suspects: nftables on " + relayIP + ": "},
		{"reject with icmpx admin-prohibited", "TCP 7422 is rejected (no route), though the relay listens on it at " + relayIP + "; suspects: nftables on " + relayIP + ": "},
	} {
		firewall(tt.verdict)
		p := l.init(t, relayIP)
		p.waitWithin(2*patience, 1)
		if want := "sshka-proxy: init, 6/7, check the way there: " + tt.says; !strings.Contains(p.stderr.String(), want) {
			t.Errorf("%s: %q is missing", tt.verdict, want)
		}
		if strings.Contains(p.stdout.String(), "Host ") || !strings.Contains(p.stdout.String(), "FAIL TCP ") {
			t.Errorf("%s: printed %q", tt.verdict, p.stdout)
		}
	}
	firewall("accept")
	p := l.init(t, relayIP)
	p.waitWithin(2*patience, 0)
	if !strings.Contains(p.stdout.String(), " localhost %p\n") {
		t.Errorf("this sshd listens on loopback, too, and the block says %q", sshBlocks(t, p))
	}

	// On another port nobody listens, whatever its firewall says.
	config := l.path("home/.config/sshka/config.yaml")
	l.check(os.Remove(config))
	p = l.init(t, relayIP, "--port", "7499")
	p.waitWithin(2*patience, 1)
	if want := "TCP 7499 is closed (connection refused), and no relay listens on it at " + relayIP; !strings.Contains(p.stderr.String(), want) {
		t.Errorf("%q is missing", want)
	}
}
