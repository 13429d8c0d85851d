package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// segment is the most bytes that travel together, as on an Ethernet.
const segment = 1448

// DefaultBuffer is the socket buffer of a Line without one, in bytes, each for
// what was written and for what was not read yet.
const DefaultBuffer = 256 << 10

// Line is the path between two ends, the same in both directions.
type Line struct {
	// Rate is the line's speed in bytes per second. Zero means unlimited.
	Rate int
	// Delay is the time one way. Zero means none.
	Delay time.Duration
	// Buffer is the size of each socket buffer in bytes. Zero means
	// DefaultBuffer.
	Buffer int
	// NAT stands on the path. Its zero value forgets nothing.
	NAT NAT
}

// NAT is a middlebox that keeps state for every flow.
type NAT struct {
	// Idle is how long a silent flow is remembered. Zero means for ever.
	Idle time.Duration
	// Reset: a packet of a forgotten flow is answered with a reset. Otherwise it
	// vanishes, and nobody is told.
	Reset bool
}

// Pipe returns the two ends of a connection over line.
func Pipe(line Line) (a, b *Conn) {
	if line.Buffer == 0 {
		line.Buffer = DefaultBuffer
	}
	p := &path{line: line, last: time.Now()}
	p.changed = sync.NewCond(&p.mu)
	a = &Conn{p: p, name: "a", gone: make(chan struct{})}
	b = &Conn{p: p, name: "b", gone: make(chan struct{})}
	a.peer, b.peer = b, a
	go p.carry(a)
	go p.carry(b)
	return a, b
}

// path is what both ends share.
type path struct {
	line Line

	mu      sync.Mutex // guards all below and both Conns
	changed *sync.Cond
	last    time.Time // when a packet last passed the NAT
	hole    bool
	forgot  bool
}

// Conn is one end of a simulated connection.
type Conn struct {
	p    *path
	peer *Conn
	name string
	gone chan struct{} // closed when err is set

	// guarded by p.mu
	out     []byte   // written, not on the line yet
	flight  [][]byte // on the line; nil is the end of stream
	flying  int      // bytes in flight
	in      []byte   // arrived, not read yet
	eof     bool     // the peer's end of stream has arrived
	closing bool     // no more writes; the end of stream follows out
	closed  bool
	frozen  bool
	err     error // ECONNRESET

	readDeadline, writeDeadline deadline
	read, written               int64
}

// carry moves what c writes over the line to its peer.
func (p *path) carry(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for c.err == nil && !p.ready(c) {
			p.changed.Wait()
		}
		if c.err != nil {
			return
		}
		n := min(len(c.out), segment)
		b := append([]byte(nil), c.out[:n]...)
		if p.line.Rate > 0 && n > 0 {
			p.mu.Unlock()
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(p.line.Rate)):
			case <-c.gone:
			}
			p.mu.Lock()
			for c.err == nil && p.hole {
				p.changed.Wait() // lost: sent again when the path is back
			}
			if c.err != nil {
				return
			}
		}
		if !p.pass(c) {
			return
		}
		c.out = c.out[n:]
		c.flying += n
		last := n == 0
		if last {
			b = nil
		}
		c.flight = append(c.flight, b)
		p.changed.Broadcast()
		if p.line.Delay > 0 {
			time.AfterFunc(p.line.Delay, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.arrive(c)
			})
		} else {
			p.arrive(c)
		}
		if last {
			return
		}
	}
}

// ready reports whether a packet of c can go on the line.
func (p *path) ready(c *Conn) bool {
	if p.hole {
		return false
	}
	if len(c.out) > 0 {
		return len(c.peer.in)+c.flying < p.line.Buffer
	}
	return c.closing
}

// pass lets a packet of c through the NAT, and reports false when there is
// nothing more to carry.
func (p *path) pass(c *Conn) bool {
	nat, now := p.line.NAT, time.Now()
	if nat.Idle > 0 && now.Sub(p.last) > nat.Idle {
		p.forgot = true
	}
	if p.forgot {
		if nat.Reset {
			c.reset()
		}
		return false // into the void, for ever
	}
	p.last = now
	return true
}

// arrive hands the oldest packet in flight to c's peer.
func (p *path) arrive(c *Conn) {
	if len(c.flight) == 0 {
		return
	}
	b := c.flight[0]
	c.flight = c.flight[1:]
	c.flying -= len(b)
	switch {
	case b == nil:
		c.peer.eof = true
	case c.peer.closed: // nobody reads: a reset
		c.reset()
	default:
		c.peer.in = append(c.peer.in, b...)
	}
	p.changed.Broadcast()
}

// Read reads what has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case c.frozen:
		case len(c.in) > 0 || len(b) == 0:
			n := copy(b, c.in)
			c.in = c.in[n:]
			c.read += int64(n)
			c.p.changed.Broadcast()
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.eof:
			return 0, io.EOF
		}
		c.p.changed.Wait()
	}
}

// Write hands b to the socket buffer.
func (c *Conn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	total := 0
	for {
		switch {
		case c.closed || c.closing:
			return total, net.ErrClosed
		case c.writeDeadline.passed():
			return total, os.ErrDeadlineExceeded
		case c.frozen:
		case c.err != nil:
			return total, c.err
		case len(b) == 0:
			return total, nil
		case len(c.out) < c.p.line.Buffer:
			n := min(len(b), c.p.line.Buffer-len(c.out))
			c.out = append(c.out, b[:n]...)
			b = b[n:]
			total += n
			c.written += int64(n)
			c.p.changed.Broadcast()
			continue
		}
		c.p.changed.Wait()
	}
}

// CloseWrite sends the end of stream behind what was written.
func (c *Conn) CloseWrite() error { return c.locked(func() { c.closing = true }) }

// Close ends both directions. What was written still travels.
func (c *Conn) Close() error {
	return c.locked(func() {
		c.closing, c.closed = true, true
		c.readDeadline.set(time.Time{}, nil)
		c.writeDeadline.set(time.Time{}, nil)
		if c.p.hole || c.p.forgot || c.peer.closed {
			c.reset() // let carry end
		}
		if c.peer.closed {
			c.peer.reset()
		}
	})
}

// Freeze stops this end's process: its reads and writes block until Thaw.
func (c *Conn) Freeze() { _ = c.locked(func() { c.frozen = true }) }

// Thaw lets a frozen end go on.
func (c *Conn) Thaw() { _ = c.locked(func() { c.frozen = false }) }

// Cut resets the connection at both ends.
func (c *Conn) Cut() {
	_ = c.locked(func() {
		c.reset()
		c.peer.reset()
	})
}

// reset ends this end with ECONNRESET. The caller holds p.mu.
func (c *Conn) reset() {
	if c.err == nil {
		c.err = syscall.ECONNRESET
		close(c.gone)
		c.p.changed.Broadcast()
	}
}

// Hole makes the path swallow everything, or heals it: then what was lost is
// sent again.
func (c *Conn) Hole(on bool) { _ = c.locked(func() { c.p.hole = on }) }

// Counts returns how many bytes this end has read and written.
func (c *Conn) Counts() (read, written int64) {
	_ = c.locked(func() { read, written = c.read, c.written })
	return read, written
}

func (c *Conn) locked(f func()) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	f()
	c.p.changed.Broadcast()
	return nil
}

// Addr is the address of a simulated end.
type Addr string

// Network is "sim".
func (Addr) Network() string { return "sim" }

// String returns the address.
func (a Addr) String() string { return string(a) }

// LocalAddr names this end.
func (c *Conn) LocalAddr() net.Addr { return Addr(c.name) }

// RemoteAddr names the other end.
func (c *Conn) RemoteAddr() net.Addr { return Addr(c.peer.name) }

// SetDeadline bounds Read and Write.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.locked(func() {
		c.readDeadline.set(t, c.wake)
		c.writeDeadline.set(t, c.wake)
	})
}

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.locked(func() { c.readDeadline.set(t, c.wake) })
}

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.locked(func() { c.writeDeadline.set(t, c.wake) })
}

func (c *Conn) wake() { _ = c.locked(func() {}) }

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(t time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), wake)
	}
}
