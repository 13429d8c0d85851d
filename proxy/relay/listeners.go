package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// doors are the listeners that a relay accepts links on.
type doors struct {
	mu   sync.Mutex      // guards all below
	ctx  context.Context // of Serve: doors open later end with it; nil: it has not begun
	fail context.CancelCauseFunc
	open map[net.Listener]*door
}

// door is one listener.
type door struct {
	ln    net.Listener
	close context.CancelFunc
	left  context.Context // done when nobody accepts here any more
	pulse chan struct{}   // filled by accept when it is asked whether it lives; holds one
}

// errNotServing is why listeners cannot be changed.
var errNotServing = errors.New("the relay is not serving")

// Serve accepts links on the listeners until ctx is done or a listener fails,
// and returns when all links have ended. It closes the listeners. It is called
// once.
func (r *Relay) Serve(ctx context.Context, listeners ...net.Listener) error {
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r.doors.mu.Lock()
	r.doors.ctx, r.doors.fail, r.doors.open = serving, fail, make(map[net.Listener]*door)
	r.doors.mu.Unlock()
	r.tasks.Go(func() { r.watchMemory(serving) })
	r.tasks.Go(func() { r.watchKeys(serving) })
	_ = r.Relisten(listeners...) // fails when ctx is done, which ends it all
	close(r.serving)
	<-serving.Done()
	r.doors.shut()
	r.tasks.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(serving)
}

// shut waits for a Relisten that is under way: none begins anything from now on.
func (d *doors) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = nil
}

// Relisten accepts links on these listeners from now on: first on those that are
// new, then no longer on those that are not among them, which it closes. Links stay
// wherever they came in. It may be called while Serve runs and owns the
// listeners, upon an error too.
func (r *Relay) Relisten(listeners ...net.Listener) error {
	r.doors.mu.Lock()
	defer r.doors.mu.Unlock()
	if r.doors.ctx == nil || r.doors.ctx.Err() != nil {
		for _, ln := range listeners {
			ln.Close()
		}
		return errNotServing
	}
	was := r.doors.open
	r.doors.open = make(map[net.Listener]*door, len(listeners))
	for _, ln := range listeners {
		d := was[ln]
		if d == nil {
			d = r.openDoor(ln)
		}
		r.doors.open[ln] = d
		delete(was, ln)
	}
	for _, d := range was {
		d.close()
	}
	return nil
}

// openDoor accepts on ln. The caller holds doors.mu.
func (r *Relay) openDoor(ln net.Listener) *door {
	ctx, fail := r.doors.ctx, r.doors.fail
	d := &door{ln: ln, pulse: make(chan struct{}, 1)}
	d.left, d.close = context.WithCancel(ctx)
	context.AfterFunc(d.left, func() { ln.Close() })
	r.tasks.Go(func() {
		defer d.close()
		if err := r.accept(ctx, d); err != nil {
			fail(err)
		}
	})
	return d
}

// accept takes connections until the door is closed, and serves them until ctx is
// done. An error that passes, such as too many open files, is waited out.
func (r *Relay) accept(ctx context.Context, d *door) error {
	const pause = 50 * time.Millisecond
	for {
		conn, err := d.ln.Accept()
		if d.left.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.answer()
			continue
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listen on %s: %w", d.ln.Addr(), err)
		default:
			r.log.Warn("accept failed, trying on", "address", d.ln.Addr().String(), "error", err)
			select {
			case <-time.After(pause):
			case <-d.left.Done():
				return nil
			}
			continue
		}
		s := r.gates.handshakes.enter(conn)
		if s == nil {
			conn.Close()
			r.notLetIn(ctx, conn, errCrowded)
			continue
		}
		r.tasks.Go(func() { r.serveConn(ctx, s) })
	}
}
