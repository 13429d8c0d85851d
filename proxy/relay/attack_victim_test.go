package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAttackWhoGoesFirst: the longest sleeper of the key that holds most (passes;
// TestTheLongestSleeperGoesFirst does not look at who goes).
func TestAttackWhoGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(64<<20, func(Limit) {})
		sleeper := func(id byte, key string, bytes int) *held {
			h := &held{owner: key, reached: make(chan struct{})}
			tb.add(wire.ID{id}, h, 100)
			h.s = session.Accept(session.Config{Memory: h.memory}, &wire.Open{ID: wire.ID{id}})
			h.s.Write(make([]byte, bytes))
			h.attached(1)
			h.detached(1, time.Hour)
			time.Sleep(time.Second)
			return h
		}
		small := sleeper(1, "small", 250_000)
		old := sleeper(2, "large", 200_000)
		young := sleeper(3, "large", 200_000)
		for i, want := range []*held{old, small, young} {
			got := tb.victim(tb.memory)
			if got != want {
				t.Errorf("victim %d: %v of %q", i, got.s.ID(), got.owner)
			}
			got.s.Reset(wire.CodeEvicted, "")
		}
		if v := tb.victim(tb.memory); v != nil {
			t.Errorf("%v twice", v.s.ID())
		}
		for _, h := range []*held{small, old, young} {
			h.s.Abandon(errExpired)
			h.s.Close()
			h.timer.Stop()
		}
		if used := tb.memory.Used(); used != 0 {
			t.Errorf("%d bytes of nothing", used)
		}
	})
}
