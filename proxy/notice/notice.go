// Package notice tells at once when the computer has woken up or its network has
// changed, so that nobody has to wait for a timeout to find out.
//
//	notice.Watcher{}.Run(ctx, func(e notice.Event) { ... })
//
// Both are hints: the path to a peer may be as good as ever, and it may be gone
// without either.
package notice

import (
	"context"
	"time"
)

// Event is what has happened.
type Event int

// The events.
const (
	// Woke: the process did not run for a while. The computer slept, or the
	// process was stopped (SIGSTOP, SIGCONT). Timers do not run then.
	Woke Event = iota
	// NetworkChanged: an address, a route or an interface came or went. Known on
	// Linux only (rtnetlink(7)).
	NetworkChanged
)

// String is the event in words.
func (e Event) String() string {
	if e == Woke {
		return "woken up"
	}
	return "network changed"
}

const (
	// tick is how often the clocks are compared.
	tick = time.Second
	// lateTick is how much the clocks may differ, or a tick be late, on a machine
	// that was awake: under load, or while its clock is being set by NTP.
	lateTick = 3 * time.Second
	// settle is how long changes may take to become one: an address comes with
	// routes, one by one.
	settle = 50 * time.Millisecond
	// minGap and maxGap are between two NetworkChanged: longer and longer while
	// changes go on and on, as when containers start and stop.
	minGap = 250 * time.Millisecond
	maxGap = 4 * time.Second
	// calm is how long nothing must have changed for the gap to be short again.
	calm = 10 * time.Second
)

// Watcher watches. The zero Watcher watches this computer.
type Watcher struct {
	// Wall is the wall clock, which goes on while the computer sleeps. Nil means
	// time.Now.
	Wall func() time.Time
	// Network calls changed for every change until ctx is done. Nil means the
	// system's own way, where it is known.
	Network func(ctx context.Context, changed func())
}

// Run calls told, from one goroutine, until ctx is done, and returns when all it
// started has ended.
func (w Watcher) Run(ctx context.Context, told func(Event)) {
	if w.Wall == nil {
		w.Wall = func() time.Time { return time.Now().Round(0) } // without the monotonic reading
	}
	if w.Network == nil {
		w.Network = watchNetwork
	}
	changes := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Network(ctx, func() {
			select {
			case changes <- struct{}{}:
			default: // one is waiting already
			}
		})
	}()
	defer func() { <-ended }()

	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	clocks := clocks{mono: time.Now(), wall: w.Wall()}
	gap := gap{next: minGap}
	var due <-chan time.Time // when a change is to be told; nil: there is none
	var silent time.Time     // not before then
	for {
		select {
		case <-ticker.C:
			if clocks.jumped(time.Now(), w.Wall()) {
				told(Woke)
			}
		case <-changes:
			if due == nil {
				due = time.After(max(settle, time.Until(silent)))
			}
		case now := <-due:
			due = nil
			told(NetworkChanged)
			silent = now.Add(gap.after(now))
		case <-ctx.Done():
			return
		}
	}
}

// clocks are both of them, as last seen.
type clocks struct {
	mono time.Time // with a monotonic reading, which may stand still in a sleep
	wall time.Time // without
}

// jumped reports whether the computer, or this process, stood still since last
// time: on systems whose monotonic clock stops in a sleep the clocks differ, on
// others the tick is late.
func (c *clocks) jumped(mono, wall time.Time) bool {
	ran, passed := mono.Sub(c.mono), wall.Sub(c.wall)
	c.mono, c.wall = mono, wall
	return passed-ran > lateTick || ran > tick+lateTick
}

// gap is how long to be silent after a change.
type gap struct {
	next time.Duration
	last time.Time
}

// after returns the silence after a change at now.
func (g *gap) after(now time.Time) time.Duration {
	if now.Sub(g.last) > calm {
		g.next = minGap
	}
	d := g.next
	g.last, g.next = now.Add(d), min(2*g.next, maxGap)
	return d
}
