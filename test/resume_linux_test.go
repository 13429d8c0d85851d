package test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cutLinks resets every connection to the relay's port, at the client's end and,
// by the reset that this sends, at the relay's.
func (l *lab) cutLinks(t *testing.T) {
	t.Helper()
	l.start(t, client, "ss", "-K", "dst", relayIP, "dport", "=", "7422").wait(0)
}

// Every cut of the link is a pause and nothing else: scp ends with the file
// intact.
func TestSCPOutlivesCutsOfItsLink(t *testing.T) {
	t.Parallel()
	const size, cuts = 100_000_000, 10
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := l.randomFile(t, "sent", size)
	through := l.through(t, nil)
	for _, tt := range []struct{ way, from, to, file string }{
		{"up", l.path("sent"), targetIP + ":" + l.path("up"), "up"},
		{"down", targetIP + ":" + l.path("up"), l.path("down"), "down"},
	} {
		p := l.start(t, client, "scp", "-q", "-F", l.path("ssh_config"), through, tt.from, tt.to)
		for { // a cut before it has begun proves something else
			if info, err := os.Stat(l.path(tt.file)); err == nil && info.Size() > 0 {
				break
			}
			if p.endsWithin(5 * time.Millisecond) {
				t.Fatalf("%s: scp ended with %d before it began", tt.way, p.status)
			}
		}
		done := 0
		for ; done < cuts; done++ {
			if p.endsWithin(150 * time.Millisecond) {
				break
			}
			l.cutLinks(t)
		}
		if done < 3 {
			t.Errorf("%s: scp ended after %d cuts, which proves little", tt.way, done)
		}
		p.waitWithin(bulkPatience, 0)
		if got := sum(t, l.path(tt.file)); got != want {
			t.Fatalf("%s: the file that arrived differs", tt.way)
		}
		t.Logf("%s: %d cuts", tt.way, done)
	}
}

// A relay that is started anew holds no sessions: ssh ends with one clear line.
func TestARestartedRelayEndsSessionsWithOneClearLine(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := l.startRelay(t, relayPort, nil)
	p := l.ssh(t, l.through(t, nil), targetIP, "cat")
	p.send("before\n")
	p.expect("before")
	first.signal(unix.SIGKILL)
	<-first.ended
	l.startRelay(t, relayPort, nil)
	p.wait(255)
	t.Log(oneLine(t, p))
}
