package proxy_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// What comes late, over carriers of our own.

// ask opens a carrier, says m and returns the answer.
func (h *house) ask(t *testing.T, m wire.Message) wire.Message {
	t.Helper()
	c, err := h.client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(wire.Append(nil, m)); err != nil {
		t.Fatal(err)
	}
	answer, err := wire.Read(c)
	if err != nil {
		return nil
	}
	return answer
}

// TestALateOpenIsNotDialledAgain: its session has lived and ended meanwhile (I5).
func TestALateOpenIsNotDialledAgain(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		s := h.dial(t)
		open := &wire.Open{ID: s.ID(), Generation: 9, Target: s.Target()}
		roundTrip(t, s, "hello")
		s.Close()
		<-s.Done()
		time.Sleep(time.Second)
		refused, ok := h.ask(t, open).(*wire.Refused)
		if !ok || refused.Code != wire.CodeExpired {
			t.Errorf("%+v", refused)
		}
		if n := h.reached.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		h.close()
	})
}

// TestARefusalIsRememberedForAMinute: the answer may have been lost.
func TestARefusalIsRememberedForAMinute(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, dialErr: errors.New("no route")})
		open := &wire.Open{ID: wire.ID{7}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}}
		var first string
		for generation := range uint64(5) {
			open.Generation = generation + 1
			refused, ok := h.ask(t, open).(*wire.Refused)
			if !ok {
				t.Fatal("not refused")
			}
			if said := fmt.Sprint(refused); first == "" {
				first = said
			} else if said != first {
				t.Errorf("first %s, then %s", first, said)
			}
		}
		if n := h.reached.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		if _, ok := h.ask(t, &wire.Resume{ID: wire.ID{7}, Generation: 9}).(*wire.Refused); !ok {
			t.Error("resumed what was refused")
		}
		time.Sleep(time.Hour)
		h.ask(t, open)
		if n := h.reached.Load(); n != 2 {
			t.Errorf("%d dials", n)
		}
		h.close()
	})
}

// TestAStaleCarrierKeepsNobodyAlive: it is older than the session's last, so it
// changes nothing, the window included.
func TestAStaleCarrierKeepsNobodyAlive(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		open := &wire.Open{ID: wire.ID{7}, Generation: 5, Target: wire.Target{Host: "10.1.2.3", Port: 22}}
		if _, ok := h.ask(t, open).(*wire.OK); !ok { // and its carrier ends: one minute
			t.Fatal("not opened")
		}
		time.Sleep(50 * time.Second)
		for generation := range uint64(6) {
			if m := h.ask(t, &wire.Resume{ID: wire.ID{7}, Generation: max(generation, 1)}); m != nil {
				t.Errorf("generation %d: %+v", generation, m)
			}
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if h.ended.Load() != 1 {
			t.Error("the relay still holds the session")
		}
		h.close()
	})
}

// TestALinkThatIsFullTakesOthersLater: a session gives its place back.
func TestALinkThatIsFullTakesOthersLater(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, limits: relay.Limits{SessionsPerLink: 1}})
		for range 5 {
			s := h.dial(t)
			if _, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22"); err == nil {
				t.Error("two sessions on a link for one")
			}
			s.Close()
			<-s.Done()
			time.Sleep(time.Second)
		}
		if n, others := h.hits.of(relay.LimitSessionsPerLink); n != 5 || others != 0 {
			t.Errorf("counted %d times, other limits %d", n, others)
		}
		h.close()
	})
}

// TestAFloodOfOpensIsSlowedDown: one key asks for more sessions than it may, and is
// told when to come back; another link of its own does not help.
func TestAFloodOfOpensIsSlowedDown(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, limits: relay.Limits{OpensPerSecond: 2}})
		slowed := 0
		for i := range 40 {
			m := h.ask(t, &wire.Open{ID: wire.ID{1, byte(i)}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}})
			if refused, ok := m.(*wire.Refused); ok && refused.Code == wire.CodeSlowDown && refused.RetryAfter > 0 {
				slowed++
			}
		}
		if n := h.reached.Load(); slowed < 15 || int(n)+slowed != 40 {
			t.Errorf("%d slowed down, %d dialled", slowed, n)
		}
		if n, others := h.hits.of(relay.LimitOpensPerSecond); n != slowed || others != 0 {
			t.Errorf("%d slowed down, counted %d times, other limits %d", slowed, n, others)
		}
		h.close()
	})
}
