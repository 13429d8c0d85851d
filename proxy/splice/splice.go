// Package splice joins two connections until both directions have ended.
//
// It keeps the ends apart as TCP does: an end of stream on one side becomes a
// half-close on the other and the opposite direction goes on, for hours if need
// be; a reset on one side becomes a reset on the other, never a clean end, so
// that nothing looks complete that is not.
//
//	result := splice.Join(ctx, client, target)
package splice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// drainTime is how long the other direction may still deliver what had arrived before a
// write failed: a server says "bye" and resets.
const drainTime = 500 * time.Millisecond

// Conn is what Join needs of each side. *net.TCPConn and *session.Session are
// such.
type Conn interface {
	io.ReadWriteCloser
	// CloseWrite ends this direction; the other goes on.
	CloseWrite() error
}

// Aborter is implemented by a Conn that can end with an error at its other end.
// A *net.TCPConn is aborted with a reset, any other Conn is closed.
type Aborter interface {
	Abort(cause error)
}

// Failer is implemented by a Conn that can fail while nobody reads or writes it:
// both copiers may be waiting for the other side.
type Failer interface {
	// OnFailure calls f with the reason, in a goroutine of its own, when the Conn
	// fails, or has failed already; at most once, and not after stop has returned.
	OnFailure(f func(error)) (stop func())
}

// Pumper is implemented by a Conn that can be written elsewhere at no cost while it
// has nothing to say: no goroutine waits for it.
type Pumper interface {
	// Pump writes to w what would be read, until the end. It returns at once, and
	// calls done once, in a goroutine of its own, when all of that is over.
	Pump(w io.Writer, done func(total int64, err error))
}

// Side names one of Join's connections.
type Side string

// The sides, in the order of Join's parameters.
const (
	A Side = "a"
	B Side = "b"
)

// An Error tells which side failed. The error beneath is the connection's own.
type Error struct {
	Side Side
	Op   string // "read" or "write"
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Side, e.Err) }

// Unwrap returns the connection's own error.
func (e *Error) Unwrap() error { return e.Err }

// Result is what Join did.
type Result struct {
	AToB, BToA int64 // bytes delivered
	// Err is nil when both directions ended cleanly, the context's cause when it
	// was done, else an *Error: what happened first.
	Err error
}

// Why is Err for a person who knows the sides as a and b, without the addresses that
// net repeats. It is empty when both directions ended cleanly.
func (r Result) Why(a, b string) string {
	var e *Error
	switch {
	case r.Err == nil:
		return ""
	case !errors.As(r.Err, &e):
		return r.Err.Error()
	}
	name := map[Side]string{A: a, B: b}[e.Side]
	preposition := map[string]string{"read": "from", "write": "to"}[e.Op]
	cause := e.Err
	var op *net.OpError
	if errors.As(cause, &op) && op.Err != nil {
		cause = op.Err
	}
	return fmt.Sprintf("%s %s %s: %v", e.Op, preposition, name, cause)
}

// Join copies between a and b until both directions have ended, then closes
// both. It owns them from the call on. When ctx is done both are aborted.
func Join(ctx context.Context, a, b Conn) Result {
	j := &join{a: a, b: b}
	stop := context.AfterFunc(ctx, func() { j.abort(context.Cause(ctx)) })
	defer stop()

	for side, c := range map[Side]Conn{A: a, B: b} {
		if f, ok := c.(Failer); ok {
			defer f.OnFailure(func(err error) { j.failSoon(&Error{side, "read", err}) })()
		}
	}

	ways := [...]way{{src: a, dst: b, from: A, to: B}, {src: b, dst: a, from: B, to: A}}
	ways[0].back, ways[1].back = &ways[1], &ways[0]
	var wg sync.WaitGroup
	var own *way // is copied here: an idle connection costs no goroutine more than it must
	for i := range ways {
		w := &ways[i]
		p, pumps := w.src.(Pumper)
		switch {
		case pumps:
			wg.Add(1)
			p.Pump(&marking{w: w.dst}, func(n int64, err error) {
				defer wg.Done()
				j.over(w, n, err)
			})
		case own == nil:
			own = w
		default:
			wg.Go(func() { j.copy(w) })
		}
	}
	if own != nil {
		j.copy(own)
	}
	wg.Wait()

	r := Result{AToB: ways[0].n, BToA: ways[1].n}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	if j.drain != nil {
		j.drain.Stop()
	}
	r.Err = j.err
	if j.err != nil {
		j.abortLocked()
	}
	a.Close()
	b.Close()
	return r
}

type join struct {
	a, b Conn

	mu      sync.Mutex  // guards all below
	err     error       // the first
	aborted bool        // both sides were aborted
	ended   bool        // both directions have, however
	drain   *time.Timer // aborts after a failed write
}

// way is one direction.
type way struct {
	src, dst Conn
	from, to Side
	back     *way  // the other one
	n        int64 // bytes that were moved, once it is over

	said atomic.Bool // dst is told that src has ended

	// Guarded by the join's mu.
	over     bool
	failed   error         // a write
	whenOver chan struct{} // closed then; nil: nobody waits
}

// copy moves bytes until the source has ended or one of the two fails.
func (j *join) copy(w *way) {
	n, err := relay(w.dst, w.src)
	j.over(w, n, err)
}

// over takes the end of one direction.
func (j *join) over(w *way, n int64, err error) {
	w.n = n
	var failed *writeError
	if errors.As(err, &failed) {
		j.done(w, failed.error)
	} else {
		j.done(w, nil)
	}
	switch {
	case err == nil && j.cut(w):
		j.abort(&Error{w.from, "read", syscall.ECONNRESET})
	case err == nil:
		w.said.Store(true)
		if err := w.dst.CloseWrite(); err != nil {
			j.failSoon(&Error{w.to, "write", err})
		}
	case failed != nil:
		j.failSoon(&Error{w.to, "write", failed.error})
	default:
		j.abort(&Error{w.from, "read", err})
	}
}

// cut reports whether the end of the source is a reset, of which only the way back was
// told when it wrote. Once its own direction was ended nothing is written, and a connection
// whose both directions have ended is gone, too.
func (j *join) cut(w *way) bool {
	var src any = w.src
	if c, ok := src.(interface{ NetConn() net.Conn }); ok {
		src = c.NetConn()
	}
	if !socket.ToldOfReset(src) || w.back.said.Load() {
		return false
	}
	over := make(chan struct{})
	j.mu.Lock()
	if w.back.over {
		close(over)
	} else {
		w.back.whenOver = over
	}
	j.mu.Unlock()
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case <-over: // soon: it was told
	case <-late.C:
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Is(w.back.failed, syscall.ECONNRESET)
}

// done notes that a way is over, and why it could not write.
func (j *join) done(w *way, failed error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.over, w.failed = true, failed
	if w.whenOver != nil {
		close(w.whenOver)
	}
}

// failSoon ends everything soon: what has arrived from the side that failed may
// still be delivered.
func (j *join) failSoon(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		return
	}
	if j.err == nil {
		j.err = err
	}
	if j.drain == nil && !j.aborted {
		j.drain = time.AfterFunc(drainTime, func() { j.abort(err) })
	}
}

// abort ends everything now.
func (j *join) abort(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	j.abortLocked()
}

func (j *join) abortLocked() {
	if j.aborted {
		return
	}
	j.aborted = true
	for _, c := range []Conn{j.a, j.b} {
		switch c := c.(type) {
		case Aborter:
			c.Abort(j.err)
		case *net.TCPConn:
			_ = c.SetLinger(0) // Close sends RST
			c.Close()
		default:
			c.Close()
		}
	}
}

// writeError marks an error of the destination.
type writeError struct{ error }

// relay copies until the end of src, without a buffer of its own where src
// hands out its memory.
func relay(dst io.Writer, src io.Reader) (int64, error) {
	if src, ok := src.(io.WriterTo); ok {
		if _, tcp := src.(*net.TCPConn); !tcp { // its WriteTo would allocate
			w := &marking{w: dst}
			return src.WriteTo(w)
		}
	}
	w := &marking{w: dst}
	return Copy(w, src)
}

// marking wraps the errors of a writer, so that a WriterTo's can be told apart.
type marking struct{ w io.Writer }

func (m *marking) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}
