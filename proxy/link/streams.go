package link

import (
	"io"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// signal follows the streams as yamux does: a carrier is there from the frame that
// opens it, whoever sends that, until both ends have closed it.
func (l *Link) signal(h header, sent bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.kind() > muxTypeWindow {
		return nil
	}
	flags, id := h.flags(), h.stream()
	if flags&muxSYN != 0 {
		if err := l.opens(id, sent); err != nil {
			return err
		}
	}
	c := l.carriers[id]
	if c == nil {
		return nil // yamux knows what to do
	}
	if h.kind() == muxTypeWindow && !sent {
		if err := c.widen(h.length()); err != nil {
			return err
		}
	}
	if flags&(muxFIN|muxRST) == 0 {
		return nil
	}
	switch {
	case id == l.controlID && !sent:
		return wire.Violation("the control stream ended")
	case flags&muxRST != 0:
		c.ours, c.theirs = true, true
	case sent:
		c.ours = true
	default:
		c.theirs = true
		c.in.end(io.EOF)
	}
	if c.ours && c.theirs {
		l.forget(c)
	}
	return nil
}

// forget lets go of a carrier whose stream is over. Whoever still waits on one that this
// end has not closed hears it now, since the link's end no longer reaches it: it was reset,
// or the peer has used its id again. The caller holds mu.
func (l *Link) forget(c *carrier) {
	delete(l.carriers, c.id)
	c.fail(yamux.ErrConnectionReset)
	if c.stream == nil { // nobody will read what has arrived
		c.in.discard(yamux.ErrConnectionReset)
	}
}

// maxSignals bounds how many headers of yamux's may wait for a peer that does not read.
const maxSignals = 16 << 10

// say lets a header of yamux's leave.
func (l *Link) say(h header) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue.signals) >= maxSignals*muxHeader {
		return wire.Violation("the peer opens and closes streams, and does not read")
	}
	l.queue.signals = append(l.queue.signals, h[:]...)
	l.queue.wake()
	return l.err()
}

// opens makes the carrier of a stream that this end or else the peer opens. The caller
// holds mu.
func (l *Link) opens(id uint32, sent bool) error {
	switch {
	case l.client && !sent:
		return wire.Violation("the relay opened a stream")
	case id == 0:
		return wire.Violation("stream 0 opened")
	case l.carriers[id] != nil:
		return wire.Violation("stream %d opened twice", id)
	case l.controlID == 0: // the first is the control stream
		l.controlID = id
	case !sent && l.cfg.MaxStreams > 0 && len(l.carriers)-1 >= l.cfg.MaxStreams:
		l.hit(LimitStreams)
		return wire.Violation("more than %d streams", l.cfg.MaxStreams)
	}
	l.carriers[id] = l.newCarrier(id)
	return nil
}

// arrived is called by yamux's receive loop alone.
func (l *Link) arrived(stream uint32, p parcel) error {
	l.mu.Lock()
	c := l.carriers[stream]
	enough := c != nil && len(p.b) <= c.granted
	if enough {
		c.granted -= len(p.b)
	}
	l.mu.Unlock()
	switch {
	case c == nil: // was reset
		p.free()
		return nil
	case !enough:
		return wire.Violation("more than the window of a stream")
	case stream == l.controlID:
		defer p.free()
		c.consumed(len(p.b))
		return l.readControl(p.b)
	}
	l.unread.arrived(p.cost)
	c.in.put(p)
	return nil
}

// owe lets the writer grant the peer n bytes more for c.
func (l *Link) owe(c *carrier, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.owed += n; c.owed == n {
		l.queue.grants = append(l.queue.grants, c)
		l.queue.wake()
	}
}
