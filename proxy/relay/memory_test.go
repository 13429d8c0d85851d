package relay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestSleepersGiveWayWithoutAnOpen: what is held grows while nobody opens a session,
// and the relay sees that by itself, within seconds. It takes no more than it needs.
func TestSleepersGiveWayWithoutAnOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{held: newTable(2<<20, func(Limit) {}), tickets: newTickets(0, func(Limit) {})}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.watchMemory(ctx) })
		var all []*held
		fill := func(key string, detached bool) {
			id := wire.ID{byte(len(all) + 1)}
			h := &held{owner: key, reached: make(chan struct{})}
			r.held.add(id, h, 100)
			h.s = session.Accept(session.Config{Memory: h.memory}, &wire.Open{ID: id})
			close(h.reached)
			h.s.Write(make([]byte, 60_000)) // which pressure lets everybody have
			h.attached(1)
			if detached {
				h.detached(1, time.Hour)
			}
			all = append(all, h)
		}
		evicted := func() (n int) {
			for _, h := range all {
				var reset *session.ResetError
				if errors.As(h.s.Err(), &reset) && reset.Code == wire.CodeEvicted {
					n++
				}
			}
			return n
		}
		const sleepers, perKey = 4, 4
		for i := range sleepers {
			fill(string(rune('a'+i/perKey)), true)
			time.Sleep(time.Minute)
		}
		if n := evicted(); n != 0 {
			t.Fatalf("%d sleepers are ended while there is room: pressure %v", n, r.held.memory.Own())
		}
		for i := 0; r.held.memory.Own() < session.Full && i < 100; i++ {
			fill(string(rune('A'+i/perKey)), false)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := evicted(); n == 0 || n > 2 || r.held.memory.Own() >= session.Full {
			t.Errorf("%d sleepers were ended, pressure %v", n, r.held.memory.Own())
		}
		if all[0].s.Err() == nil {
			t.Error("the longest sleeper is still there")
		}
		cancel()
		wg.Wait()
		for _, h := range all {
			h.s.Abandon(errExpired)
			h.s.Close()
			if h.timer != nil {
				h.timer.Stop()
			}
		}
	})
}

// TestTheRelaySweepsByItself: once a minute.
func TestTheRelaySweepsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{held: newTable(1<<20, func(Limit) {}), tickets: newTickets(time.Hour, func(Limit) {})}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.watchMemory(ctx) })
		r.held.lay("gone", 0, 10, &wire.Refused{Code: wire.CodeRefused})
		_, ended := comeIn(r.tickets, "gone", nil)
		ended(false)
		time.Sleep(time.Hour + 2*sweepTick)
		synctest.Wait()
		if len(r.held.dead) != 0 || len(r.tickets.byID) != 0 {
			t.Errorf("%d tombstones and %d tickets of a key that is gone", len(r.held.dead), len(r.tickets.byID))
		}
		cancel()
		wg.Wait()
	})
}
