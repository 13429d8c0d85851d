package test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A relay that was killed has forgotten its sessions. Whoever used it hears so as
// soon as it is back, however the client came, busy or idle, and none hangs.
func TestAKilledRelayEndsEveryClient(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	const down, within = 3 * time.Second, 5 * time.Second
	l := newLab(t)
	c := l.startClients(t, nil, nil)
	beats := settings{"heartbeat": strictBeats}
	ours := map[string]*process{ // whose line is sshka-proxy's
		"a link of its own": l.ssh(t, l.through(t, beats.with(settings{"socket": `""`})), targetIP, "cat"),
		"the daemon's link": l.ssh(t, l.through(t, beats), targetIP, "cat"),
	}
	theirs := map[string]*process{ // whose line is ssh's: nothing of ours has its stderr
		"SOCKS":  l.ssh(t, netcat("5"), targetIP, "cat"),
		"fdpass": l.ssh(t, append(l.passing(t, beats), targetIP, "cat")...),
	}
	for _, all := range []map[string]*process{ours, theirs} {
		for _, p := range all {
			p.send("before\n")
			p.expect("before")
		}
	}
	c.relay.signal(unix.SIGKILL)
	<-c.relay.ended
	idle(down)
	for _, all := range []map[string]*process{ours, theirs} {
		for name, p := range all {
			if p.endsWithin(0) {
				t.Errorf("%s: ssh ended while the relay was away, which might have been the network", name)
			}
		}
	}
	c.relay = l.startRelay(t, relayPort, nil)
	back := time.Now()
	for name, p := range ours {
		p.waitWithin(within-time.Since(back), 255)
		t.Logf("%s: after %s: %s", name, time.Since(back).Round(time.Millisecond), oneLine(t, p))
	}
	for name, p := range theirs {
		if !p.endsWithin(within - time.Since(back)) {
			t.Errorf("%s: ssh hangs %s after the relay is back; the daemon:\n%s", name, time.Since(back).Round(time.Millisecond), c.daemon.dump())
			continue
		}
		t.Logf("%s: after %s: %q", name, time.Since(back).Round(time.Millisecond), p.stderr)
		if !containsAny(p.stderr.String(), sshOwn) {
			t.Errorf("%s: ssh says %q, want that its connection was closed", name, p.stderr)
		}
	}
	for _, e := range c.echoes { // these never stopped talking
		e.until(within-time.Since(back), "end of the session", func() bool { return e.ended || e.err != nil })
		if e.ended {
			t.Errorf("%s: the session ended as if all were well", e.name)
		}
		t.Logf("%s: after %s: %v", e.name, time.Since(back).Round(time.Millisecond), e.failure())
		if e.proc != nil {
			e.proc.waitWithin(patience, 1)
			oneLine(t, e.proc)
		}
	}
	// What is new works at once.
	again := l.ssh(t, l.through(t, beats), targetIP, "echo here")
	again.wait(0)
	if got := again.stdout.String(); got != "here\n" {
		t.Errorf("got %q from the new relay", got)
	}
}

// The daemon holds the link, not the session: a ProxyCommand goes on without it.
func TestProxyCommandsOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	needLab(t)
	for _, tt := range []struct {
		name   string
		signal unix.Signal
		again  bool // it is started anew at once
	}{
		{"killed", unix.SIGKILL, false},
		{"killed and started anew", unix.SIGKILL, true},
		{"restarted", unix.SIGTERM, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.startRelay(t, relayPort, nil)
			l.serveEchoes(t)
			beats := settings{"heartbeat": strictBeats}
			daemon := l.startDaemon(t, beats)
			e := l.commandEcho(t, "the daemon's link", beats, chat)
			p := l.ssh(t, l.through(t, beats), targetIP, "cat")
			p.send("before\n")
			p.expect("before")
			flows(patience, e)
			l.expectLinks(t, relayPort, 1) // nobody has one of its own
			for range pick(1, 10) {
				e.pause()
				daemon.signal(tt.signal)
				<-daemon.ended
				if tt.again {
					daemon = l.startDaemon(t, beats)
				}
				flows(settleTime, e)
				pause := e.pause()
				t.Logf("a pause of %s", pause.Round(time.Millisecond))
				if pause > noticedPause {
					t.Errorf("nothing came back for %s, want at most %s", pause, noticedPause)
				}
				p.send("after\n")
				p.expect("after")
				if !tt.again {
					l.expectLinks(t, relayPort, 2) // one each
					break
				}
			}
			p.stdin.Close()
			p.wait(0)
			l.quiet(t, p)
			e.finish(settleTime)
		})
	}
}
