package test

import (
	"os"
	"strings"
	"testing"
)

// dbclient is another ssh, Dropbear's. Its -J expands nothing.
func TestDbclientThroughTheProxySurvivesIdling(t *testing.T) {
	t.Parallel()
	needTools(t, "dbclient", "dropbearconvert")
	l := newLab(t)
	l.setNAT(nat, silent, natIdle)
	l.startRelay(t, relayPort, nil)
	l.check(runTool("", "dropbearconvert", "openssh", "dropbear", l.path("user"), l.path("user.dropbear")))
	l.check(os.Mkdir(l.path("home/.ssh"), 0o700))
	// It takes a comment behind a key for a part of the key.
	l.write("home/.ssh/known_hosts", strings.ReplaceAll(l.read(t, "known_hosts"), " host\n", "\n"))
	p := l.start(t, client, "dbclient", "-T", "-K", "0", "-i", l.path("user.dropbear"),
		"-J", program(t, "sshka-proxy")+" --config "+l.proxyConfig(nil)+" "+targetIP+" 22",
		"root@"+targetIP, "echo $SSH_CONNECTION; cat")
	p.expect("\n")
	if got := p.stdout.String(); !strings.Contains(got, " "+targetIP+" 22\n") {
		t.Errorf("sshd says %q, want a connection to %s", got, targetIP)
	}
	idle(daemonIdle)
	p.send("after\n")
	p.expect("after")
	p.stdin.Close()
	p.wait(0)
}
