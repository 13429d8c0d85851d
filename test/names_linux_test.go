package test

import (
	"strings"
	"testing"
)

// The command line of a ProxyCommand is HOST PORT, whatever the host is called.
func TestAHostMayBeCalledAsACommandIs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, settings{"allow": `["serve:22", "demo:22"]`})
	for _, name := range commandNames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := l.ssh(t, l.through(t, nil), name, "echo $SSH_CONNECTION")
			p.wait(0)
			if got := p.stdout.String(); !strings.Contains(got, " "+targetIP+" 22\n") {
				t.Errorf("sshd says %q, want a connection to %s", got, targetIP)
			}
			l.quiet(t, p)
		})
	}
}
