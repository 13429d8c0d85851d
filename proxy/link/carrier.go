package link

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// How lately a carrier was read from. Its stream's buffer is given back when
// readsNone is reached.
const (
	readsNone = 0 // two ticks ago, or never
	readsNow  = 2 // since the last tick
)

// carrier is what a session is attached to: a yamux stream whose waits can be
// ended at once.
type carrier struct {
	l      *Link
	stream *yamux.Stream

	// guarded by l.mu
	wake    *sync.Cond
	pending []byte // the Write under way, what is left of it
	writing bool
	reading bool  // a Read is under way
	queued  bool  // stands in one of the queue's rows
	closed  bool  // by us
	failure error // of the stream alone
	reads   int   // readsNow, then one less each tick
	behaviour
}

func (l *Link) newCarrier(stream *yamux.Stream) *carrier {
	c := &carrier{l: l, stream: stream, wake: sync.NewCond(&l.mu)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.carriers[c] = struct{}{}
	if l.hushed {
		_ = stream.SetReadDeadline(past)
	}
	return c
}

// Read reads what the peer wrote, for one goroutine. io.EOF is the end of the carrier,
// not of the session.
func (c *carrier) Read(p []byte) (int, error) {
	c.l.mu.Lock()
	c.reading = !c.closed
	c.l.mu.Unlock()
	if !c.reading { // nobody else writes to it
		return 0, net.ErrClosed
	}
	n, err := c.stream.Read(p)
	if n > 0 {
		c.l.unread.read(n)
	}
	c.l.mu.Lock()
	c.reading = false
	if n > 0 {
		c.reads = readsNow
	}
	closed, hushed := c.closed, c.l.hushed
	if closed {
		c.wake.Broadcast()
	}
	c.l.mu.Unlock()
	switch {
	case n > 0 || err == nil:
		return n, nil
	case closed:
		return 0, net.ErrClosed
	case hushed: // yamux calls it a clean end, or a timeout
		<-c.l.dead
		return 0, c.l.Err()
	}
	return 0, err
}

// Write returns when the link's writer has taken all of p, the carrier is closed
// or the link has ended.
func (c *carrier) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for c.writing && c.err() == nil {
		c.wake.Wait() // another Write is under way
	}
	if err := c.err(); err != nil {
		return 0, err
	}
	c.writing, c.pending = true, p
	if len(p) > 0 {
		c.l.queue.push(c)
	}
	for len(c.pending) > 0 && c.err() == nil {
		c.wake.Wait()
	}
	n := len(p) - len(c.pending)
	c.writing, c.pending = false, nil
	c.wake.Broadcast()
	if n < len(p) {
		return n, c.err()
	}
	return n, nil
}

// err is why nothing can be written any more. The caller holds l.mu.
func (c *carrier) err() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.failure != nil:
		return c.failure
	}
	return c.l.err()
}

// Close ends the carrier at once: waiting reads and writes return. What Write
// has returned for is still sent.
func (c *carrier) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.wake.Broadcast()
	_ = c.stream.SetReadDeadline(past) // wakes Read
	c.l.queue.close(c)
	return nil
}

// finish closes the stream and drains it until the peer has closed its end, so
// that yamux stores nothing that nobody reads. Only the writer calls it.
func (c *carrier) finish() {
	_ = c.stream.Close()
	c.l.tasks.Go(func() {
		c.awaitRead()
		_, _ = io.Copy(io.Discard, counted{c.stream, &c.l.unread})
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		delete(c.l.carriers, c)
	})
}

// awaitRead lets the last Read return before another one begins: two of them take two
// locks of yamux's stream in opposite orders, and would hold each other up for ever, and
// with them the link.
func (c *carrier) awaitRead() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for c.reading {
		c.wake.Wait()
	}
	if !c.l.hushed {
		_ = c.stream.SetReadDeadline(time.Time{})
	}
}

// counted is a stream whose bytes are counted out.
type counted struct {
	io.Reader
	unread *unread
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.unread.read(n)
	return n, err
}
