package link

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// controlOut is what waits to be written to the control stream. Nothing here
// grows: of beats and answers only the latest matters.
type controlOut struct {
	beat          uint64 // a beat's seq; 0: none
	answer        uint64 // an answer's seq; 0: none
	slowDown      bool
	receipt       uint64 // bytes; 0: none
	goAway        *wire.GoAway
	goAwayWritten chan struct{} // closed by the writer
}

// take appends everything that waits to b. written, which may be nil, is to be
// closed once b is written.
func (c *controlOut) take(b []byte) (_ []byte, written chan struct{}) {
	if c.answer != 0 {
		b = wire.Append(b, &wire.BeatAck{Seq: c.answer})
	}
	if c.beat != 0 {
		b = wire.Append(b, &wire.Beat{Seq: c.beat})
	}
	if c.receipt != 0 {
		b = wire.Append(b, &wire.Receipt{Bytes: c.receipt})
	}
	if c.slowDown {
		b = wire.Append(b, &wire.SlowDown{Interval: heartbeat.PaceInterval})
	}
	if c.goAway != nil {
		b = wire.Append(b, c.goAway)
	}
	written = c.goAwayWritten
	*c = controlOut{}
	return b, written
}

func (c *controlOut) empty() bool {
	return c.beat == 0 && c.answer == 0 && c.receipt == 0 && !c.slowDown && c.goAway == nil
}

// GoAway tells the peer that this end will close the link, and when to call again;
// reason is a word for its log. Nothing new will be opened by the peer; carriers
// that there are go on until the link ends. Only the first GOAWAY of a link counts.
func (l *Link) GoAway(after time.Duration, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.control.goAway = &wire.GoAway{After: after, Reason: reason}
	l.queue.wake()
}

// startControl lets the control stream be written to.
func (l *Link) startControl(c *carrier) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control = c
	close(l.ready)
	l.queue.wake()
}

// readControl takes what has arrived on the control stream. yamux's receive loop calls
// it, with the memory of its own, and must not be held up.
func (l *Link) readControl(b []byte) error {
	if len(l.partial) > 0 {
		l.partial = append(l.partial, b...)
		b = l.partial
	}
	for len(b) >= wire.HeaderSize {
		h, err := wire.ParseHeader([wire.HeaderSize]byte(b))
		switch {
		case err != nil:
			return err
		case !h.Type.Skippable() && h.Length > wire.MaxControl:
			return wire.Violation("unexpected %s", h.Type)
		}
		end := wire.HeaderSize + h.Length
		if len(b) < end {
			break
		}
		m, err := wire.Decode(h.Type, b[wire.HeaderSize:end])
		if err != nil {
			return err
		}
		if err := l.handle(m); err != nil {
			return err
		}
		b = b[end:]
	}
	if l.partial = append(l.partial[:0], b...); len(l.partial) == 0 {
		l.partial = nil
	}
	return nil
}

// handle takes a message of the control stream; nil is one to be skipped.
func (l *Link) handle(m wire.Message) error {
	switch m := m.(type) {
	case nil:
	case *wire.Beat:
		return l.peerBeat(m.Seq)
	case *wire.BeatAck:
		l.beatAnswered(m.Seq)
	case *wire.SlowDown:
		l.slowDown(m.Interval)
	case *wire.GoAway:
		l.peerGoesAway(m)
	case *wire.Receipt:
		l.receipt(m)
	default:
		return wire.Unexpected(m)
	}
	return nil
}

// tick is the beat timer's function, and starts it.
func (l *Link) tick() {
	if l.judge() {
		l.end(MissedBeats, nil)
	}
}

// judge lets the machine decide and reports whether the peer is lost.
func (l *Link) judge() (lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return false
	}
	l.beats.Observe(l.meter.activity())
	d := l.beats.Advance(l.meter.now())
	l.decided(d)
	return d.Lost
}

// arm sets the timer to the machine's next time. The caller holds mu.
func (l *Link) arm() {
	at, ok := l.beats.Next()
	if !ok || l.lost != nil {
		return
	}
	wait := max(0, at-l.meter.now())
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.tick)
	} else {
		l.timer.Reset(wait)
	}
}

func (l *Link) beatAnswered(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beats.Observe(l.meter.activity())
	rtt, ok := l.beats.Ack(seq, l.meter.now())
	if ok {
		l.tally.rtt = max(rtt, 1)
		l.beatArrived(rtt)
		if l.trace.BeatAnswered != nil {
			l.trace.BeatAnswered(rtt)
		}
	}
	l.arm()
}

func (l *Link) peerBeat(seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trace.PeerBeat != nil {
		l.trace.PeerBeat(seq)
	}
	switch l.pace.Beat(l.meter.now()) {
	case heartbeat.Answer:
		l.queue.control.answer = seq
	case heartbeat.Warn:
		l.hit(LimitBeatPace)
		l.queue.control.slowDown = true
	case heartbeat.Drop:
		l.hit(LimitBeatPace)
		return wire.Violation("the peer beats too fast")
	case heartbeat.Ignore:
	}
	l.queue.wake()
	return nil
}

func (l *Link) slowDown(least time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beats.SlowDown(least)
	if l.trace.SlowDown != nil {
		l.trace.SlowDown(l.beats.Interval())
	}
	l.arm()
}

func (l *Link) peerGoesAway(m *wire.GoAway) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goAway != nil {
		return
	}
	l.goAway = m
	close(l.away)
	if l.trace.GoAway != nil {
		l.trace.GoAway(m.After, m.Reason)
	}
}
