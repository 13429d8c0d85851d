package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// socksPort is where the daemon offers SOCKS and HTTP CONNECT by default.
const socksPort = 1080

// newSOCKSLab is a lab with a forgetful NAT, a relay and a daemon.
func newSOCKSLab(t *testing.T, s settings) *lab {
	t.Helper()
	l := newLab(t)
	l.setNAT(nat, silent, natIdle)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, s)
	return l
}

// netcat returns ssh's option for a connection by OpenBSD's netcat, which is no
// program of ours. Its -X is 5, 4 or connect.
func netcat(protocol string) string {
	return fmt.Sprintf("-oProxyCommand=nc -X %s -x %s:%d %%h %%p", protocol, loopbackIP, socksPort)
}

func TestSSHThroughSOCKSAndCONNECTSurvivesIdling(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	l := newSOCKSLab(t, nil)
	for _, tt := range []struct{ protocol, host string }{
		{"5", targetName},
		{"5", targetIP},
		{"5", targetIP6},
		{"4", targetIP}, // netcat's SOCKS4 knows no names; PuTTY's does
		{"connect", targetName},
		{"connect", targetIP6},
	} {
		t.Run(tt.protocol+" to "+tt.host, func(t *testing.T) {
			t.Parallel()
			p := l.ssh(t, netcat(tt.protocol), tt.host, "cat")
			p.send("before\n")
			p.expect("before")
			idle(daemonIdle)
			p.send("after\n")
			p.expect("after")
			p.stdin.Close()
			p.wait(0)
			l.quiet(t, p)
		})
	}
}

func TestSFTPThroughSOCKSArrivesIntact(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	l := newSOCKSLab(t, nil)
	want := l.randomFile(t, "sent", socksSize)
	batch := l.write("batch", fmt.Sprintf("put %s %s\nget %[2]s %s\n", l.path("sent"), l.path("up"), l.path("down")))
	p := l.start(t, client, "sftp", "-q", "-F", l.path("ssh_config"), netcat("5"), "-b", batch, targetName)
	p.waitWithin(bulkPatience, 0)
	if got := sum(t, l.path("down")); got != want {
		t.Error("the file that came back differs")
	}
	n := l.numbers(t, client, proxyAdmin)
	n.expect(atLeast(socksSize), "sshka_session_bytes_total", `direction="to_target"`)
	n.expect(atLeast(socksSize), "sshka_session_bytes_total", `direction="to_client"`)
	n.expect(equal(0), "sshka_sessions", `state="attached"`)
}

// socksSize is of files, in bytes.
const socksSize = 20_000_003

// What a relay says about a target is told in the client's protocol.
func TestSOCKSAndCONNECTTellWhyATargetIsNotReached(t *testing.T) {
	t.Parallel()
	needTools(t, "curl")
	l := newSOCKSLab(t, nil)
	l.answerNothing(t, relay)
	// curl tells SOCKS's reply, and CONNECT's status.
	for _, tt := range []struct{ target, socks5, connect string }{
		{targetIP + ":23", "(5)", "502"},   // connection refused
		{targetIP + ":2222", "(2)", "403"}, // not allowed
		{"nosuch.test:22", "(4)", "502"},   // host unreachable
	} {
		for scheme, word := range map[string]string{"socks5h": tt.socks5, "http": tt.connect} {
			t.Run(scheme+" to "+tt.target, func(t *testing.T) {
				p := l.start(t, client, "curl", "-q", "-sS", "--proxytunnel", "--proxy", fmt.Sprintf("%s://%s:%d", scheme, loopbackIP, socksPort), "http://"+tt.target+"/")
				if !p.endsWithin(patience) || p.status == 0 {
					t.Fatalf("curl: %s, want a failure", p.state())
				}
				if said := p.stderr.String(); !strings.Contains(said, word) {
					t.Errorf("curl says %q, want %s in it", said, word)
				}
			})
		}
	}
}

func TestAForwardLeadsToItsTarget(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, settings{"forwards": fmt.Sprintf(
		`[{listen: "127.0.0.1:2222", target: "%s:22"}, {listen: "127.0.0.1:2323", target: "%s:%s"}]`, targetName, targetIP, rawPort)})
	t.Run("ssh", func(t *testing.T) {
		p := l.ssh(t, "-p", "2222", "-oHostKeyAlias="+targetName, loopbackIP, "echo $SSH_CONNECTION")
		p.wait(0)
		if got := p.stdout.String(); !strings.Contains(got, " "+targetIP+" 22\n") {
			t.Errorf("sshd says %q, want a connection to %s", got, targetIP)
		}
		l.quiet(t, p)
	})
	t.Run("the answer comes after the end of input", func(t *testing.T) {
		want := l.randomFile(t, "sent", rawSize)
		l.serve(t, func(conn net.Conn) error {
			all, err := io.ReadAll(conn)
			if err != nil {
				return err
			}
			_, err = io.WriteString(conn, sumOf(string(all)))
			return err
		})
		p := l.start(t, client, "nc", "-N", loopbackIP, "2323")
		l.feed(t, p, "sent")
		p.wait(0)
		if got := p.stdout.String(); got != want {
			t.Errorf("the target heard %q, want %q", got, want)
		}
	})
}
