package relay

import (
	"context"
	"maps"
	"slices"
	"time"
)

// deadliner is a listener whose Accept can be called back.
type deadliner interface{ SetDeadline(t time.Time) error }

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Alive returns when this relay has shown that it works: every lock that a link or
// a session needs was free, and every listener's goroutine has come round and
// accepts again. Before Serve has begun, and while something is stuck, it does not return, unless ctx is done.
// It is meant for a watchdog, and for one caller at a time.
func (r *Relay) Alive(ctx context.Context) error {
	select {
	case <-r.serving:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.held.size()
	r.roster.list()
	r.links.all()
	r.tickets.touch()
	r.gates.touch()
	r.doors.mu.Lock()
	open := slices.Collect(maps.Values(r.doors.open))
	r.doors.mu.Unlock()
	for _, d := range open {
		if err := d.ask(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ask wakes the door's Accept with a deadline that has passed, and waits until its
// goroutine has seen that. Connections that come meanwhile wait in the kernel.
func (d *door) ask(ctx context.Context) error {
	ln, ok := d.ln.(deadliner)
	if !ok {
		return nil
	}
	select {
	case <-d.pulse: // of a caller who did not wait for it
	default:
	}
	_ = ln.SetDeadline(past) // fails where it is being closed, and then left is done
	select {
	case <-d.pulse:
		return nil
	case <-d.left.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answer is accept's to ask.
func (d *door) answer() {
	if ln, ok := d.ln.(deadliner); ok {
		_ = ln.SetDeadline(time.Time{})
	}
	select {
	case d.pulse <- struct{}{}:
	default:
	}
}

func (t *tickets) touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
}

func (g *gates) touch() {
	g.handshakes.mu.Lock()
	defer g.handshakes.mu.Unlock()
	g.signatures.mu.Lock()
	defer g.signatures.mu.Unlock()
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
}
