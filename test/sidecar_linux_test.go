package test

import (
	"strings"
	"testing"
)

// The relay beside the sshd of a jump host, which listens on loopback only.
func TestASidecarReachesAnSSHDOnLoopback(t *testing.T) {
	t.Parallel()
	const jump = inet
	l := newLab(t)
	l.startSSHD(jump, loopbackIP)
	l.startRelayIn(t, jump, relayPort, nil, inetIP) // what it allows is the default
	through := "-oProxyCommand=" + program(t, "sshka-proxy") + " --config " + l.proxyConfig(nil) + " --relay %h localhost %p"

	p := l.ssh(t, through, inetIP, "echo $SSH_CONNECTION")
	p.wait(0)
	if got := p.stdout.String(); !strings.HasSuffix(got, " "+loopbackIP+" 22\n") {
		t.Errorf("sshd says %q, want a connection to %s", got, loopbackIP)
	}
	l.quiet(t, p)

	bare := l.ssh(t, inetIP, "true")
	bare.wait(255)
	if said := bare.stderr.String(); !strings.Contains(said, "Connection refused") {
		t.Errorf("without the relay ssh says %q, want the connection refused", said)
	}
}
