package proxy_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
)

// within waits for an echo, and gives up after limit.
func within(t *testing.T, c *session.Session, limit time.Duration) (d time.Duration, ok bool) {
	t.Helper()
	start := time.Now()
	c.SetDeadline(start.Add(limit))
	defer c.SetDeadline(time.Time{})
	const s = "are you there?"
	if _, err := io.WriteString(c, s); err != nil {
		return time.Since(start), false
	}
	if _, err := io.ReadFull(c, make([]byte, len(s))); err != nil {
		t.Logf("%v", err)
		return time.Since(start), false
	}
	return time.Since(start), true
}

// TestAttackAFullRelayTakesBackItsOwn: RESUME, and a link that carries one, are
// never refused for a limit.
func TestAttackAFullRelayTakesBackItsOwn(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, limits: relay.Limits{LinksPerKey: 1}})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.hole(true)
		if d, ok := within(t, c, time.Hour); !ok || d > 40*time.Second {
			t.Errorf("a pause of %v (%v): the dead link keeps the new one out", d, ok)
		}
		c.Close()
		time.Sleep(time.Minute)
		h.close()
	})
}

// falseAlarm makes the newest link silent until it is doubted, and a little longer.
func (h *house) falseAlarm(t *testing.T, extra time.Duration) {
	t.Helper()
	h.mu.Lock()
	first := h.uplink
	h.mu.Unlock()
	first.Hole(true)
	for doubts := h.doubts.Load(); h.doubts.Load() == doubts; {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(extra)
	first.Hole(false)
}

// TestAttackMaxAgeSurvivesAFalseAlarm: the link that was to be replaced is doubted,
// lives, and must be replaced all the same.
func TestAttackMaxAgeSurvivesAFalseAlarm(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, maxAge: time.Minute})
		c := h.dial(t)
		h.down.Store(true)
		time.Sleep(90 * time.Second)
		h.falseAlarm(t, 500*time.Millisecond)
		time.Sleep(time.Minute)
		h.down.Store(false)
		time.Sleep(24 * time.Hour)
		if n := h.ups.Load(); n < 2 {
			t.Errorf("%d links in a day, with a maximal age of a minute", n)
		}
		roundTrip(t, c, "after")
		c.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestAttackATicketLivesAsLongAsTheLinkInUse: the ticket of a candidate that was
// closed after a false alarm takes the place of the living link's, and expires.
func TestAttackATicketLivesAsLongAsTheLinkInUse(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{Delay: 200 * time.Millisecond},
			heartbeat: heartbeat.Policy{Interval: 5 * time.Second, Timeout: time.Second, CountMax: 10},
			window:    10 * time.Minute,
		})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.falseAlarm(t, 500*time.Millisecond)
		time.Sleep(time.Hour)
		if h.ups.Load() != 1 || h.dials.Load() != 2 {
			t.Fatalf("%d links, %d dials", h.ups.Load(), h.dials.Load())
		}
		h.mu.Lock()
		h.paths[0].Cut()
		h.mu.Unlock()
		roundTrip(t, c, "after")
		if n := h.proofs.Load(); n != 1 {
			t.Errorf("keys were asked for %d times", n)
		}
		c.Close()
		time.Sleep(time.Minute)
		h.close()
	})
}

// TestAttackALongWayIsGoneAgain: where a first link could be made another can.
func TestAttackALongWayIsGoneAgain(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Delay: 1100 * time.Millisecond}, window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.down.Store(true)
		h.cut()
		time.Sleep(5 * time.Second)
		h.down.Store(false)
		if d, ok := within(t, c, 30*time.Minute); !ok {
			t.Errorf("no link for %v after %d dials, over a path with a round trip of 2.2 s", d, h.dials.Load())
		}
		c.Abort(nil)
		h.close()
	})
}

// TestAttackDroppedAttemptsTakeNoRoom: attempts that are given up, and take a while
// to notice, must not be the ones that the next loss waits for.
func TestAttackDroppedAttemptsTakeNoRoom(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, hang: func(n int64) bool {
			if n == 2 || n == 3 {
				time.Sleep(10 * time.Second) // whatever its context says
				return true
			}
			return false
		}})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.falseAlarm(t, 1500*time.Millisecond)
		time.Sleep(2 * time.Second)
		if n := h.dials.Load(); n != 3 {
			t.Fatalf("%d dials", n)
		}
		h.cut()
		if d, ok := within(t, c, 50*time.Minute); !ok {
			t.Errorf("nobody has dialled for %v", d)
		}
		c.Abort(nil)
		time.Sleep(time.Minute)
		h.close()
	})
}

// TestAttackThoseWhoAskAgainDoNotHurryADial: a daemon's ProxyCommands ask it again
// every ten seconds while there is no link (inbound's waitTime).
func TestAttackThoseWhoAskAgainDoNotHurryADial(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: 24 * time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.down.Store(true)
		h.cut()
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 30 {
			time.Sleep(300 * time.Millisecond)
			wg.Go(func() {
				for ctx.Err() == nil {
					once, stop := context.WithTimeout(ctx, 10*time.Second)
					if c, err := h.client.Reopen(once); err == nil {
						c.Close()
					}
					stop()
				}
			})
		}
		first := h.dials.Load()
		time.Sleep(time.Minute)
		if n := h.dials.Load() - first; n > 90 {
			t.Errorf("%d dials in the first minute, at most one a second", n)
		}
		time.Sleep(15 * time.Minute)
		before := h.dials.Load()
		time.Sleep(time.Hour)
		if n := h.dials.Load() - before; n > 600 {
			t.Errorf("%d dials in an hour, of a relay that has been away for long", n)
		}
		cancel()
		wg.Wait()
		c.Abort(nil)
		h.stop()
		h.close()
	})
}

// few lets so many TLS records come in, and then nothing passes any more.
type few struct {
	*simnet.Conn
	left  int // records
	inRec int // bytes of the record that are to come
	head  []byte
}

func (f *few) Read(p []byte) (int, error) {
	if f.inRec == 0 {
		if f.left == 0 {
			f.Hole(true)
			return f.Conn.Read(make([]byte, 1))
		}
		f.left--
		f.head = make([]byte, 5)
		if _, err := io.ReadFull(f.Conn, f.head); err != nil {
			return 0, err
		}
		f.inRec = 5 + int(binary.BigEndian.Uint16(f.head[3:]))
	}
	if len(f.head) > 0 {
		n := copy(p, f.head)
		f.head = f.head[n:]
		f.inRec -= n
		return n, nil
	}
	n, err := f.Conn.Read(p[:min(len(p), f.inRec)])
	f.inRec -= n
	return n, err
}

// TestAttackACandidateIsProvenOrNot: a candidate from which some bytes come, and
// then nothing, holds everybody up for no longer than its proof may take.
func TestAttackACandidateIsProvenOrNot(t *testing.T) {
	for _, policy := range []heartbeat.Policy{{}, {CountMax: heartbeat.Off}} {
		for records := 2; records < 12; records++ {
			t.Run(fmt.Sprintf("count %d records %d", policy.CountMax, records), func(t *testing.T) {
				simnet.Bubble(t, func(t *testing.T) {
					h := build(t, options{line: defaults, window: time.Hour, heartbeat: policy, wrap: func(n int64, c *simnet.Conn) net.Conn {
						if n == 2 {
							return &few{Conn: c, left: records}
						}
						return c
					}})
					c := h.dial(t)
					roundTrip(t, c, "before")
					h.hole(true)
					d, ok := within(t, c, 30*time.Minute)
					// 25 s until the first miss, 4 s for the handshake or the proof.
					// One that was proven, and died then, is for its own beats to find.
					if proven := h.ups.Load() > 2; !ok || d > 34*time.Second && !proven || d > time.Minute {
						t.Errorf("count_max %d, %d records: a pause of %v (%v)", policy.CountMax, records, d, ok)
					}
					c.Abort(nil)
					time.Sleep(time.Second)
					h.close()
				})
			})
		}
	}
}

// TestAttackADoubtInTheQuietTimeIsNotForgotten: without a count that ends a link a
// row has one first miss, and nobody listens to it.
func TestAttackADoubtInTheQuietTimeIsNotForgotten(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{Delay: 200 * time.Millisecond},
			heartbeat: heartbeat.Policy{Interval: 5 * time.Second, Timeout: time.Second, CountMax: heartbeat.Off},
			window:    2 * time.Hour,
		})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.falseAlarm(t, 500*time.Millisecond)
		time.Sleep(2 * time.Second)
		h.mu.Lock()
		h.paths[0].Hole(true)
		h.mu.Unlock()
		if d, ok := within(t, c, time.Hour); !ok {
			t.Errorf("still on the dead link after %v and %d missed beats", d, h.missed.Load())
		}
		c.Abort(nil)
		h.close()
	})
}
