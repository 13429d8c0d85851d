package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

const (
	// strictBeats find a dead link within four seconds.
	strictBeats = "{interval: 1s, timeout: 1s, count_max: 3}"

	// A session pauses for as long as its path is out, and this much longer.
	noticedPause = 2 * time.Second              // where the client can notice at once
	silentPause  = noticedPause + 2*time.Second // where a beat has to: interval and timeout
	lanPause     = time.Second                  // after a reset, where the relay is near
	settleTime   = 30 * time.Second             // bounds the wait for what shall be there much earlier
)

// clients are one echo for each way that a session can be carried, over links
// with strictBeats.
type clients struct {
	l      *lab
	t      *testing.T
	relay  *process
	daemon *process
	near   numbers // the daemon's
	far    numbers // the relay's
	echoes []*echo
}

// startClients starts a relay, a daemon and the clients, which chat. It returns
// when all of them are heard.
func (l *lab) startClients(t *testing.T, forRelay, forProxy settings) *clients {
	t.Helper()
	return l.startClientsThat(t, chat, forRelay, forProxy)
}

func (l *lab) startClientsThat(t *testing.T, how talk, forRelay, forProxy settings) *clients {
	t.Helper()
	c := &clients{l: l, t: t, near: l.numbers(t, client, proxyAdmin), far: l.numbers(t, relay, relayAdmin)}
	c.relay = l.startRelay(t, relayPort, forRelay)
	l.serveEchoes(t)
	beats := settings{"heartbeat": strictBeats}.with(forProxy)
	c.daemon = l.startDaemon(t, beats)
	c.echoes = []*echo{
		l.commandEcho(t, "a link of its own", beats.with(settings{"socket": `""`}), how),
		l.commandEcho(t, "the daemon's link", beats, how),
		l.socksEcho(t, "SOCKS", how),
	}
	c.flow()
	c.pauses()
	return c
}

// flow waits until all clients hear an answer to what they say from now on.
func (c *clients) flow() {
	c.t.Helper()
	flows(settleTime, c.echoes...)
}

// pauses returns how long each client heard nothing since this was asked last.
func (c *clients) pauses() (longest []time.Duration) {
	for _, e := range c.echoes {
		longest = append(longest, e.pause().Round(time.Millisecond))
	}
	return longest
}

// lostLinks returns how many links the daemon has had that are gone.
func (c *clients) lostLinks() float64 {
	c.t.Helper()
	return c.near.sum("sshka_links_lost_total")
}

// endure lets something happen that takes the daemon's link, and fails the test
// unless every client goes on within allowed after its end.
func (c *clients) endure(what string, allowed time.Duration, happen func()) {
	c.t.Helper()
	lost := c.lostLinks()
	start := time.Now()
	happen()
	c.goOn(what, time.Since(start), allowed, lost)
}

// goOn fails the test unless every client goes on now, at most allowed after an
// outage, and the daemon has lost links.
func (c *clients) goOn(what string, outage, allowed time.Duration, lost float64) {
	c.t.Helper()
	c.flow()
	pauses := c.pauses()
	c.t.Logf("%s for %s: pauses of %v", what, outage.Round(time.Millisecond), pauses)
	for i, pause := range pauses {
		if pause > outage+allowed {
			c.t.Errorf("%s for %s: on %s nothing came back for %s, want at most %s more", what, outage.Round(time.Millisecond), c.echoes[i].name, pause, allowed)
		}
	}
	if now := c.lostLinks(); now == lost {
		c.t.Errorf("%s: the daemon has lost no link, so this proves nothing", what)
	}
}

// finish fails the test unless every byte of every client has come back.
func (c *clients) finish() {
	c.t.Helper()
	for _, e := range c.echoes {
		e.finish(settleTime)
	}
}

// commandConn is the stdin and stdout of a process.
type commandConn struct {
	in  io.WriteCloser
	out *os.File
}

func (c commandConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c commandConn) Write(b []byte) (int, error) { return c.in.Write(b) }
func (c commandConn) CloseWrite() error           { return c.in.Close() }
func (c commandConn) Close() error {
	c.in.Close()
	return c.out.Close()
}

// commandEcho is an echo through sshka-proxy HOST PORT, as ssh runs it.
func (l *lab) commandEcho(t *testing.T, name string, s settings, how talk) *echo {
	t.Helper()
	out, stdout, err := os.Pipe()
	l.check(err)
	p := l.startWith(t, client, func(cmd *exec.Cmd) { cmd.Stdout = stdout },
		program(t, "sshka-proxy"), "--config", l.proxyConfig(s), targetIP, rawPort)
	stdout.Close()
	e := newEcho(t, name, commandConn{p.stdin, out}, how)
	e.proc = p
	return e
}

// socksEcho is an echo through the daemon's SOCKS.
func (l *lab) socksEcho(t *testing.T, name string, how talk) *echo {
	t.Helper()
	conn, err := l.dialSOCKS()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return newEcho(t, name, conn, how)
}

func (l *lab) dialSOCKS() (*net.TCPConn, error) {
	var conn net.Conn
	err := inNamespace(l.ns(client), func() error {
		dialer, err := proxy.SOCKS5("tcp", fmt.Sprintf("%s:%d", loopbackIP, socksPort), nil, &net.Dialer{Timeout: patience})
		if err != nil {
			return err
		}
		conn, err = dialer.Dial("tcp", net.JoinHostPort(targetIP, rawPort))
		return err
	})
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T is no TCP connection", conn)
	}
	return tcp, nil
}
