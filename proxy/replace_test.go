package proxy_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/notice"
)

// How a link is replaced: suspicion, notices, age; and what a redial costs.

// hole swallows everything on the newest path, from now on.
func (h *house) hole(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uplink.Hole(on)
}

func (h *house) reasons() []link.Reason {
	var all []link.Reason
	for _, e := range h.lost {
		all = append(all, e.Reason)
	}
	return all
}

// echoed waits for the echo of what is written now, and returns how long it took.
func echoed(t *testing.T, c io.ReadWriter) time.Duration {
	t.Helper()
	start := time.Now()
	roundTrip(t, c, "are you there?")
	return time.Since(start)
}

var defaults = simnet.Line{Delay: 10 * time.Millisecond}

// TestOneMissIsEnoughWhereAnotherLinkWorks: a NAT has forgotten the flow, and the
// network is as good as ever.
func TestOneMissIsEnoughWhereAnotherLinkWorks(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.hole(true)
		if d := echoed(t, c); d > heartbeat.DefaultInterval+heartbeat.DefaultTimeout+time.Second {
			t.Errorf("a pause of %v", d)
		}
		if n := h.missed.Load(); n != 1 {
			t.Errorf("%d beats missed", n)
		}
		c.Close()
		time.Sleep(time.Minute)
		h.close()
		if got := h.reasons(); !slices.Equal(got, []link.Reason{link.MissedBeats, link.Shutdown}) {
			t.Errorf("links lost: %v", got)
		}
	})
}

// TestALinkThatAnswersLateWins: while the second one is being made the first
// receives a byte. The sessions stay where they are, and for a while nobody
// doubts it.
func TestALinkThatAnswersLateWins(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{Delay: 200 * time.Millisecond},
			heartbeat: heartbeat.Policy{Interval: 5 * time.Second, Timeout: time.Second, CountMax: 10},
			window:    time.Hour,
		})
		c := h.dial(t)
		roundTrip(t, c, "before")
		first := h.uplink
		stall := func() {
			first.Hole(true)
			for doubts := h.doubts.Load(); h.doubts.Load() == doubts; {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(500 * time.Millisecond)
			first.Hole(false)
			time.Sleep(2 * time.Second) // what was lost is sent again
		}
		stall()
		if n := h.dials.Load(); n != 2 {
			t.Errorf("%d dials, a second link was not tried", n)
		}
		if n := h.ups.Load(); n != 1 {
			t.Errorf("sessions were moved: %d links", n)
		}
		if n := c.Stats().Carriers; n != 1 {
			t.Errorf("%d carriers", n)
		}
		stall() // within the quiet time
		if n := h.dials.Load(); n != 2 {
			t.Errorf("%d dials, the link was doubted in its quiet time", n)
		}
		time.Sleep(time.Minute)
		stall()
		if n := h.dials.Load(); n != 3 {
			t.Errorf("%d dials, the quiet time never ends", n)
		}
		roundTrip(t, c, "after")
		c.Close()
		time.Sleep(time.Minute)
		h.close()
	})
}

// TestNoticesMakeABeatDue: with beats so slow that they would never find out.
func TestNoticesMakeABeatDue(t *testing.T) {
	for _, e := range []notice.Event{notice.Woke, notice.NetworkChanged} {
		t.Run(e.String(), func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				notices := make(chan notice.Event)
				h := build(t, options{
					line: defaults, window: time.Hour, notices: notices,
					heartbeat: heartbeat.Policy{Interval: time.Hour, Timeout: time.Minute},
				})
				c := h.dial(t)
				roundTrip(t, c, "before")
				notices <- e // for nothing
				time.Sleep(10 * time.Second)
				if n := h.dials.Load(); n != 1 {
					t.Errorf("%d dials, a link that answers was doubted", n)
				}
				h.hole(true)
				notices <- e
				if d := echoed(t, c); d > 1500*time.Millisecond {
					t.Errorf("a pause of %v", d)
				}
				if n := h.missed.Load(); n != 0 {
					t.Errorf("%d beats missed", n)
				}
				c.Close()
				time.Sleep(time.Second)
				h.close()
				if got := h.reasons(); !slices.Equal(got, []link.Reason{link.NetworkChanged, link.Shutdown}) {
					t.Errorf("links lost: %v", got)
				}
			})
		})
	}
}

// TestAMorningAfterANightOfSleep: the network is there again, and two seconds
// later the echo is.
func TestAMorningAfterANightOfSleep(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		notices := make(chan notice.Event)
		h := build(t, options{line: defaults, window: 24 * time.Hour, notices: notices})
		c := h.dial(t)
		roundTrip(t, c, "good night")
		h.hole(true)
		h.down.Store(true)
		time.Sleep(8 * time.Hour)
		notices <- notice.Woke
		time.Sleep(3 * time.Second)
		h.down.Store(false)
		notices <- notice.NetworkChanged
		if d := echoed(t, c); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
		if n := h.proofs.Load(); n != 1 {
			t.Errorf("keys were asked for %d times", n)
		}
		c.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestALinkIsReplacedBeforeItIsTooOld: again and again, without a stall.
func TestALinkIsReplacedBeforeItIsTooOld(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const age = time.Minute
		h := build(t, options{line: defaults, window: time.Hour, maxAge: age})
		c := h.dial(t)
		var longest time.Duration
		for start := time.Now(); time.Since(start) < 10*time.Minute; time.Sleep(50 * time.Millisecond) {
			longest = max(longest, echoed(t, c))
		}
		if longest > 6*defaults.Delay {
			t.Errorf("a stall of %v", longest)
		}
		if n := h.ups.Load(); n < 10 || n > 12 {
			t.Errorf("%d links in ten minutes", n)
		}
		if n := h.missed.Load(); n != 0 {
			t.Errorf("%d beats missed", n)
		}
		c.Close()
		time.Sleep(time.Second)
		h.close()
		for _, r := range h.reasons()[:8] {
			if r != link.MaxAge {
				t.Errorf("links lost: %v", h.reasons())
				break
			}
		}
	})
}

// TestAnOldLinkStaysWhileNoOtherCanBeMade.
func TestAnOldLinkStaysWhileNoOtherCanBeMade(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, maxAge: time.Minute})
		c := h.dial(t)
		h.down.Store(true)
		time.Sleep(10 * time.Minute)
		if d := echoed(t, c); d > 3*defaults.Delay || h.ups.Load() != 1 {
			t.Errorf("an echo after %v, %d links", d, h.ups.Load())
		}
		h.down.Store(false)
		time.Sleep(time.Minute)
		if h.ups.Load() < 2 {
			t.Error("the link was not replaced")
		}
		c.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestOneSignatureForAHundredLinks: an agent or a person is asked once.
func TestOneSignatureForAHundredLinks(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour})
		c := h.dial(t)
		for range 100 {
			time.Sleep(2 * time.Second)
			h.cut()
			roundTrip(t, c, "on")
		}
		time.Sleep(3 * time.Hour) // longer than the window: but the link was in use
		h.cut()
		roundTrip(t, c, "and on")
		if n := h.proofs.Load(); n != 1 {
			t.Errorf("keys were asked for %d times", n)
		}
		c.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestATicketIsWorthNothingWithoutItsLine: the line is asked for again at every
// use. A minute is for those who rewrite their file.
func TestATicketIsWorthNothingWithoutItsLine(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: 10 * time.Minute})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.shut.Store(true)
		h.cut()
		time.AfterFunc(20*time.Second, func() { h.shut.Store(false) })
		if d := echoed(t, c); d < 19*time.Second {
			t.Errorf("an echo after %v, without an authorized key", d)
		}
		h.shut.Store(true)
		h.cut()
		start := time.Now()
		c.SetReadDeadline(start.Add(time.Hour))
		_, err := io.ReadAll(c)
		var denied *keyauth.DeniedError
		if !errors.As(err, &denied) || !strings.Contains(err.Error(), "key not authorized") {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d < 50*time.Second || d > 80*time.Second {
			t.Errorf("ended after %v", d)
		}
		time.Sleep(15 * time.Minute)
		h.close()
	})
}

// TestAnAttemptThatHangsDoesNotHoldTheNext: a path that has just changed swallows
// the first packets.
func TestAnAttemptThatHangsDoesNotHoldTheNext(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, hang: func(n int64) bool { return n == 2 }})
		c := h.dial(t)
		time.Sleep(10 * time.Second) // the link is not young any more
		roundTrip(t, c, "before")
		h.cut()
		if d := echoed(t, c); d > 1200*time.Millisecond {
			t.Errorf("a pause of %v", d)
		}
		c.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestDialsWhileSessionsWait: often for two minutes, then less and less.
func TestDialsWhileSessionsWait(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: 12 * time.Hour, hang: func(n int64) bool { return n > 1 }})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.cut()
		time.Sleep(2 * time.Minute)
		// Each hangs for 3 s, two at once: one every 1.5 s.
		if n := h.dials.Load(); n < 60 || n > 125 {
			t.Errorf("%d dials in two minutes", n)
		}
		before := h.dials.Load()
		time.Sleep(time.Hour)
		if n := h.dials.Load() - before; n < 100 || n > 1500 {
			t.Errorf("%d dials in the next hour", n)
		}
		h.stop()
		synctest.Wait()
		h.close()
	})
}
