package relay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// tally counts the limits that were hit.
type tally map[Limit]int

func (t *tally) hit(l Limit) {
	if *t == nil {
		*t = make(tally)
	}
	(*t)[l]++
}

// TestAnEndedSessionIsForgottenForAnother: a key's tombstones are bounded. Those that
// nobody asks for any more go without a word.
func TestAnEndedSessionIsForgottenForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hits tally
		tb := newTable(1<<20, hits.hit)
		end := func(from, n int) {
			for i := range n {
				id := wire.ID{byte(from + i), byte((from + i) >> 8)}
				tb.add(id, &held{owner: "key"}, 1)
				tb.bury(id, 0, nil, time.Hour)
			}
		}
		end(0, maxTombstones)
		if len(hits) != 0 {
			t.Errorf("%v with as many as there may be", hits)
		}
		end(maxTombstones, 3)
		if hits[LimitTombstones] != 3 || len(tb.dead) != maxTombstones || tb.grave(wire.ID{}) != nil {
			t.Errorf("%v, %d tombstones", hits, len(tb.dead))
		}
		time.Sleep(2 * time.Hour)
		end(2*maxTombstones, 1)
		if hits[LimitTombstones] != 3 || len(tb.dead) != 1 {
			t.Errorf("%v, %d tombstones when all others had expired", hits, len(tb.dead))
		}
	})
}

// TestEverySessionThatMemoryEndsIsCounted: by whether the relay's memory or a key's
// share was short.
func TestEverySessionThatMemoryEndsIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want Limit
	}{
		"a key's share": {[]string{"a"}, LimitMemoryPerKey},
		"all of it":     {[]string{"a", "b", "c", "d", "e", "f", "g", "h"}, LimitMemory},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hits tally
				tb := newTable(4<<20, hits.hit)
				var all []*held
				full := func() bool {
					if c.want == LimitMemory {
						return tb.memory.Own() == session.Full
					}
					return len(all) > 0 && all[0].memory.Own() == session.Full
				}
				for i := 0; !full(); i++ {
					if i == 200 {
						t.Fatalf("%d bytes of sleepers", tb.memory.Used())
					}
					h := &held{owner: c.keys[i%len(c.keys)], reached: make(chan struct{})}
					tb.add(wire.ID{byte(i), 1}, h, 1000)
					h.s = session.Accept(session.Config{Memory: h.memory}, &wire.Open{ID: wire.ID{byte(i), 1}})
					go h.s.Write(make([]byte, 100_000))
					synctest.Wait()
					h.attached(1)
					h.detached(1, time.Hour)
					all = append(all, h)
				}
				if len(hits) != 0 {
					t.Errorf("%v before anybody asked for room", hits)
				}
				if short := tb.evict(all[len(all)-1].memory); short != "" {
					t.Errorf("no room for want of %s, with %d to evict", short, len(all))
				}
				if hits[c.want] == 0 || len(hits) != 1 {
					t.Errorf("%v, want %s", hits, c.want)
				}
				for _, h := range all {
					h.s.Abandon(errExpired)
					h.s.Close()
					h.timer.Stop()
				}
			})
		})
	}
}

// TestEveryLimitHasAValueOfItsOwn, but the one that relay and link share.
func TestEveryLimitHasAValueOfItsOwn(t *testing.T) {
	var all []string
	for _, l := range AllLimits {
		all = append(all, string(l))
	}
	for _, l := range link.Limits {
		all = append(all, string(l))
	}
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != len(all) || !slices.Contains(all, string(LimitStreams)) {
		t.Errorf("%q", all)
	}
}
