package test

import (
	"fmt"
	"strings"
	"testing"
)

// On a machine of many, a port on loopback is everyone's: the daemon's keys are not.
func TestAnotherUserIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	needTools(t, "nc", "setpriv")
	const openPort = socksPort + 1
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, settings{"forwards": fmt.Sprintf(`[{listen: "127.0.0.1:2222", target: "%s:22"}]`, targetIP)})
	l.startDaemon(t, settings{
		"allow_other_users": "true", "listen": fmt.Sprintf(`["127.0.0.1:%d"]`, openPort), "admin": `"127.0.0.1:9480"`, "socket": `""`,
	})
	asNobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	by := func(protocol string, port int) []string {
		return []string{"nc", "-X", protocol, "-x", fmt.Sprintf("%s:%d", loopbackIP, port), targetIP, "22"}
	}
	for _, tt := range []struct {
		name string
		args []string
		let  bool
	}{
		{"root by SOCKS5", by("5", socksPort), true},
		{"root by the forward", []string{"nc", loopbackIP, "2222"}, true},
		{"nobody by SOCKS5", append(asNobody, by("5", socksPort)...), false},
		{"nobody by SOCKS4", append(asNobody, by("4", socksPort)...), false},
		{"nobody by HTTP CONNECT", append(asNobody, by("connect", socksPort)...), false},
		{"nobody by the forward", append(asNobody, "nc", loopbackIP, "2222"), false},
		{"nobody by SOCKS5, allowed", append(asNobody, by("5", openPort)...), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := l.start(t, client, tt.args[0], tt.args[1:]...)
			if tt.let {
				p.expect("SSH-2.0-")
			} else {
				p.stdin.Close() // then nc stays for as long as the other end does
				if !p.endsWithin(patience) {
					t.Error("it is still connected")
				}
			}
			if got := strings.HasPrefix(p.stdout.String(), "SSH-2.0-"); got != tt.let {
				t.Errorf("the target's greeting came: %t, want %t", got, tt.let)
			}
		})
	}
}
