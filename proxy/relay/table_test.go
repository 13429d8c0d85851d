package relay

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// lay lets n sessions of key come and end, and refuse n that reach no target. The
// first of their ids is first.
func (t *table) lay(key string, first, n int, refused *wire.Refused) {
	for i := range n {
		id := graveID(first + i)
		t.add(id, &held{owner: key}, 1)
		if refused != nil {
			t.drop(id, refused)
		} else {
			t.bury(id, 7, nil, 24*time.Hour)
		}
	}
}

func graveID(n int) (id wire.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// stand counts the tombstones that stand of n sessions.
func (t *table) stand(first, n int) (standing int) {
	for i := range n {
		if _, d := t.find(graveID(first + i)); d != nil {
			standing++
		}
	}
	return standing
}

// TestAFloodOfRefusalsLeavesTheGravesAlone: those of other keys, and those of the
// same key's sessions that have ended, whose proxies may be asleep.
func TestAFloodOfRefusalsLeavesTheGravesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(1<<20, func(Limit) {})
		tb.lay("flood", 0, 100, nil)
		tb.lay("other", 1000, 100, nil)
		tb.lay("other", 2000, 100, &wire.Refused{Code: wire.CodeRefused})
		tb.lay("flood", 10_000, 3*maxTombstones, &wire.Refused{Code: wire.CodeRefused})
		for what, first := range map[string]int{"the key's ended sessions": 0, "another key's ended sessions": 1000, "another key's refusals": 2000} {
			if n := tb.stand(first, 100); n != 100 {
				t.Errorf("%s: %d of 100 are remembered", what, n)
			}
		}
		if n := tb.stand(10_000, 3*maxTombstones); n != maxTombstones {
			t.Errorf("%d refusals of one key are remembered, at most %d", n, maxTombstones)
		}
		tb.lay("flood", 100_000, 3*maxTombstones, nil)
		if n := tb.stand(100_000, 3*maxTombstones); n != maxTombstones {
			t.Errorf("%d ended sessions of one key are remembered, at most %d", n, maxTombstones)
		}
		if most := 2*maxTombstones + 200; len(tb.dead) != most {
			t.Errorf("%d tombstones, want %d", len(tb.dead), most)
		}
	})
}

// TestTombstonesGoInTime: refusals after a minute, though they were dug after what
// stays for a day; and those of keys that nobody uses any more.
func TestTombstonesGoInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(1<<20, func(Limit) {})
		refused := &wire.Refused{Code: wire.CodeRefused}
		tb.lay("a", 0, 1, nil)
		tb.lay("a", 100, 50, refused)
		tb.lay("gone", 200, 50, refused)
		time.Sleep(refusalTime + time.Second)
		tb.lay("a", 300, 1, refused)
		if n := len(tb.dead); n != 2+50 {
			t.Errorf("%d tombstones, the key that is at work has two", n)
		}
		tb.sweep()
		if n := len(tb.dead); n != 2 || len(tb.graves) != 2 {
			t.Errorf("%d tombstones in %d places, two may be asked for", n, len(tb.graves))
		}
		time.Sleep(25 * time.Hour)
		tb.sweep()
		if len(tb.dead) != 0 || len(tb.graves) != 0 {
			t.Errorf("%d tombstones in %d places that nobody asks for", len(tb.dead), len(tb.graves))
		}
	})
}

// TestAnIdThatCameBackKeepsItsGrave: the first refusal's tombstone is cleared away
// when the second one stands.
func TestAnIdThatCameBackKeepsItsGrave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tb := newTable(1<<20, func(Limit) {})
		tb.lay("a", 1, 1, &wire.Refused{Code: wire.CodeRefused})
		time.Sleep(refusalTime + time.Second)
		tb.lay("b", 1, 1, nil)
		tb.lay("a", 2, 1, &wire.Refused{Code: wire.CodeRefused})
		if tb.stand(1, 1) != 1 {
			t.Error("a session of another key is forgotten")
		}
	})
}
