package test

import (
	"fmt"
	"strings"
	"testing"
)

// For trying out: no relay to set up, no keys, and the machine's own sshd.
func TestTheEmbeddedRelayReachesThisMachinesSSHD(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	l := newLab(t)
	l.startSSHD(client, loopbackIP)
	proxy := program(t, "sshka-proxy")
	command := "-oProxyCommand=" + proxy + " --relay embedded %h %p"
	login := func(t *testing.T, args ...string) {
		t.Helper()
		p := l.ssh(t, append(args, "echo $SSH_CONNECTION")...)
		p.wait(0)
		if got := p.stdout.String(); !strings.HasSuffix(got, " "+loopbackIP+" 22\n") {
			t.Errorf("sshd says %q, want a connection to %s", got, loopbackIP)
		}
		l.quiet(t, p)
	}

	t.Run("as a ProxyCommand", func(t *testing.T) { login(t, command, loopbackIP) })
	// What make run runs.
	daemon := l.start(t, client, proxy, "serve", "--config", "../config.example.yaml", "--relay", "embedded")
	daemon.expectLog("metrics and health")
	n := l.numbers(t, client, proxyAdmin)
	n.expect(equal(1), "sshka_link_up")
	t.Run("as a daemon, by SOCKS", func(t *testing.T) { login(t, netcat("5"), "localhost") })
	t.Run("as a daemon, by its socket", func(t *testing.T) {
		login(t, "-oProxyUseFdpass=yes", strings.Replace(command, " %h", " --fdpass %h", 1), loopbackIP)
	})
	t.Run("as a ProxyCommand beside a daemon", func(t *testing.T) { login(t, command, loopbackIP) })
	n.expect(equal(2), "sshka_sessions_opened_total", `result="ok"`) // by SOCKS and --fdpass
	if p := l.ssh(t, command, fmt.Sprintf("-p%d", proxyAdmin+1), loopbackIP, "true"); p.endsWithin(patience) {
		if line := oneLine(t, p); !strings.Contains(line, "refused") {
			t.Errorf("%q does not tell that nothing listens there", line)
		}
	} else {
		t.Error("a port where nothing listens is waited for")
	}
}
