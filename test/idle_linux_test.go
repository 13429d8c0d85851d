package test

import (
	"strings"
	"testing"
	"time"
)

// The NATs of these tests forget after natIdle. It is longer than any pause of a
// handshake on a busy machine.
const (
	natIdle   = 4 * time.Second
	bareIdle  = 9 * time.Second
	proxyIdle = 12 * time.Second
)

// sshLost is how ssh tells of a connection that died: nearly always the first.
var sshLost = []string{"client_loop: send disconnect: Broken pipe", "Connection reset by", "Connection timed out"}

// The reason for all this: an idle ssh connection dies in the NAT.
func TestBareSSHDiesOfIdling(t *testing.T) {
	t.Parallel()
	needLab(t)
	for _, mode := range []natMode{silent, rst} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.setNAT(nat, mode, natIdle)
			if mode == silent {
				// Nobody answers, so TCP gives up: by default after a quarter of an hour.
				l.check(sysctl(l.ns(client), "net.ipv4.tcp_retries2", "3"))
			}
			t.Run("client speaks first", func(t *testing.T) {
				t.Parallel()
				p := l.ssh(t, relayIP, "cat")
				p.send("before\n")
				p.expect("before")
				idle(bareIdle)
				p.send("after\n")
				p.wait(255)
				if p.says("after", 0) {
					t.Error("the connection lives")
				}
				if !containsAny(p.stderr.String(), sshLost) {
					t.Errorf("ssh said %q, want one of %q", p.stderr, sshLost)
				}
			})
			t.Run("server speaks first", func(t *testing.T) {
				t.Parallel()
				p := l.ssh(t, relayIP, "echo before; sleep 9; echo after")
				p.expect("before")
				if p.says("after", bareIdle+3*time.Second) {
					t.Error("the connection lives")
				}
				// The client's side heard nothing at all, so ssh waits for ever.
				if p.endsWithin(0) {
					t.Errorf("ssh ended with %d, and nothing could tell it why", p.status)
				}
			})
		})
	}
}

func TestSSHThroughTheProxySurvivesIdling(t *testing.T) {
	t.Parallel()
	needLab(t)
	for _, mode := range []natMode{silent, rst, loose} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.setNAT(nat, mode, natIdle)
			l.startRelay(t, relayPort, nil)
			t.Run("client speaks first", func(t *testing.T) {
				t.Parallel()
				p := l.ssh(t, l.through(t, nil), targetIP, "cat")
				p.send("before\n")
				p.expect("before")
				idle(proxyIdle)
				p.send("after\n")
				p.expect("after")
				p.stdin.Close()
				p.wait(0)
				l.quiet(t, p)
			})
			t.Run("server speaks first", func(t *testing.T) {
				t.Parallel()
				p := l.ssh(t, l.through(t, nil), targetIP, "echo before; sleep 12; echo after")
				p.expect("before")
				if !p.says("after", proxyIdle+3*time.Second) {
					t.Fatalf("nothing came after idling; %s", p.state())
				}
				p.wait(0)
				l.quiet(t, p)
			})
		})
	}
}

// The leg from the relay to the target has NATs too, and nothing but the kernel's
// keepalive crosses it.
func TestTargetKeepaliveHoldsANATBehindTheRelay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, settings{"target_keepalive": "1s"})
	l.startRelay(t, relayPort+1, settings{"target_keepalive": "0"})
	l.setNAT(natt, rst, natIdle)
	t.Run("1s lives", func(t *testing.T) {
		t.Parallel()
		p := l.ssh(t, l.through(t, nil), targetIP, "cat")
		p.send("before\n")
		p.expect("before")
		idle(bareIdle)
		p.send("after\n")
		p.expect("after")
	})
	t.Run("0 dies", func(t *testing.T) {
		t.Parallel()
		p := l.ssh(t, l.through(t, settings{"relay": `"198.51.100.10:7423"`}), targetIP, "cat")
		p.send("before\n")
		p.expect("before")
		idle(bareIdle)
		p.send("after\n")
		p.wait(255)
		if p.says("after", 0) {
			t.Error("the connection lives, so the other half of this test proves nothing")
		}
	})
}

// quiet fails the test if a successful ssh wrote anything to stderr.
func (l *lab) quiet(t *testing.T, p *process) {
	t.Helper()
	if said := p.stderr.String(); said != "" {
		t.Errorf("%s wrote to stderr: %q", p.name, said)
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
