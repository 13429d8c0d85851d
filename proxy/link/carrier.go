package link

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// carrier is what a session is attached to: a yamux stream whose data goes past
// yamux, and whose waits can be ended at once.
type carrier struct {
	l      *Link
	id     uint32
	stream *yamux.Stream // nil until it was opened or accepted
	in     inbox

	// Only who reads it uses these.
	unread int // bytes since the peer was last granted a window

	// guarded by l.mu
	wake    *sync.Cond
	pending []byte // the Write under way, what is left of it
	window  int64  // how much the peer still takes, in bytes, at most maxWindow
	granted int    // how much the peer may still send
	owed    int    // how much of a window it is to be granted
	writing bool
	stalled bool  // does not stand in the queue: the peer takes no more
	closed  bool  // by us
	failure error // of the stream alone
	ours    bool  // our end of the stream has ended
	theirs  bool  // the peer's has
	behaviour
}

// newCarrier makes the carrier of a stream that is being opened. The caller holds mu.
func (l *Link) newCarrier(id uint32) *carrier {
	c := &carrier{l: l, id: id, wake: sync.NewCond(&l.mu), window: muxWindow, granted: l.cfg.window()}
	c.in.unread = &l.unread
	if l.lost != nil {
		c.in.end(l.lost)
	}
	return c
}

// carrier returns stream's.
func (l *Link) carrier(stream *yamux.Stream) *carrier {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.carriers[stream.StreamID()]
	if c == nil || c.stream != nil { // the peer has reset it meanwhile, or opened it twice since
		c = l.newCarrier(stream.StreamID())
		c.fail(yamux.ErrConnectionReset)
	}
	c.stream = stream
	return c
}

// Read reads what the peer wrote, for one goroutine. io.EOF is the end of the carrier,
// not of the session.
func (c *carrier) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	c.consumed(n)
	return n, err
}

// Borrow is Read without a copy, of at most n bytes: they are the caller's until it reads
// or borrows again.
func (c *carrier) Borrow(n int) ([]byte, error) {
	b, err := c.in.borrow(n)
	c.consumed(len(b))
	return b, err
}

// consumed grants the peer more once half of the window is read.
func (c *carrier) consumed(n int) {
	if c.unread += n; c.unread >= c.l.cfg.window()/2 {
		c.l.owe(c, c.unread)
		c.unread = 0
	}
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

// frame appends up to n bytes of the pending Write to b, as a frame, and lets the rest
// wait for its turn. The caller holds l.mu.
func (c *carrier) frame(b []byte, n int) []byte {
	if c.closed || c.failure != nil || len(c.pending) == 0 {
		return b
	}
	n = int(min(int64(min(n, len(c.pending))), c.window))
	if c.stalled = n == 0; c.stalled {
		return b
	}
	b = appendHeader(b, muxTypeData, c.id, n)
	b = append(b, c.pending[:n]...)
	c.window -= int64(n)
	if c.pending = c.pending[n:]; len(c.pending) == 0 {
		c.wake.Broadcast()
	} else {
		c.l.queue.again(c)
	}
	return b
}

// widen is told how many more bytes the peer takes. The caller holds l.mu.
func (c *carrier) widen(n uint32) error {
	if c.window += int64(n); c.window > maxWindow {
		return wire.Violation("a window of %d bytes, at most %d", c.window, int64(maxWindow))
	}
	if c.stalled && n > 0 {
		c.stalled = false
		c.l.queue.again(c)
	}
	return nil
}

// Silence is how long nothing has come from the peer, on any carrier.
func (c *carrier) Silence() time.Duration {
	_, received := c.l.meter.activity()
	return c.l.meter.now() - received
}

// fail ends the carrier with an error of its stream alone: the peer reset it. The
// caller holds l.mu.
func (c *carrier) fail(err error) {
	c.failure = err
	c.wake.Broadcast()
	c.in.end(err)
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
	c.in.discard(net.ErrClosed)
	c.l.queue.close(c)
	return nil
}
