package link

import (
	"net"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
)

const (
	// watchTime is how often the kernel is asked about what was written, while
	// there is anything.
	watchTime = 500 * time.Millisecond
	// manyRetransmits is how often in a row the kernel's retransmission timer has
	// run out (RFC 6298) for a path to be suspicious. It follows the round-trip
	// time: the third is 1.4 s after the write on a fast path.
	manyRetransmits = 3
)

// Probe asks the peer for a sign of life now, and tells Trace.Suspected if none
// comes within the given time. The loss of the link is judged as ever.
func (l *Link) Probe(within time.Duration) {
	l.mu.Lock()
	if l.lost != nil {
		l.mu.Unlock()
		return
	}
	l.beats.Observe(l.meter.activity())
	l.decided(l.beats.Probe(l.meter.now(), within))
	l.mu.Unlock()
}

// Received returns when the last byte came, as a time since the link's
// connection began: for asking whether one has come since.
func (l *Link) Received() time.Duration {
	_, received := l.meter.activity()
	return received
}

// Close ends the link at once: another one has taken its place, for that reason.
// The peer sees its connection end.
func (l *Link) Close(reason Reason) { l.end(reason, nil) }

// decided does what the machine wants done. The caller holds mu.
func (l *Link) decided(d heartbeat.Decision) {
	if d.Missed {
		l.tally.miss(d.Row, l.meter.now())
		if l.trace.BeatMissed != nil {
			l.trace.BeatMissed(d.Row)
		}
	}
	if d.Suspect && !d.Lost {
		l.suspect(MissedBeats)
	}
	if d.Beat {
		l.tally.beat(l.meter.now())
		l.queue.control.beat = d.Seq
		l.queue.wake()
		if l.trace.BeatSent != nil {
			l.trace.BeatSent(d.Seq)
		}
	}
	l.arm()
}

func (l *Link) suspect(reason Reason) {
	if l.trace.Suspected != nil {
		l.trace.Suspected(reason)
	}
}

// watch looks after what is being written, at the proxy's end: whether the kernel
// sends it again and again. It costs nothing while nothing is written. The caller
// holds mu.
func (l *Link) watch() {
	if !l.client || l.watching || l.lost != nil {
		return
	}
	l.watching = true
	if l.watcher == nil {
		l.watcher = time.AfterFunc(watchTime, l.watched)
	} else {
		l.watcher.Reset(watchTime)
	}
}

// watched is the watcher's function.
func (l *Link) watched() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, unacknowledged := retransmits(l.meter.Conn)
	switch {
	case l.lost != nil, !unacknowledged:
		l.watching = false
	case n >= manyRetransmits:
		l.watching = false // until something is written again
		l.suspect(Timeout)
	default:
		l.watcher.Reset(watchTime)
	}
}

// retransmits asks whether anything that was written is not acknowledged, and how
// often in a row the kernel has sent it again.
func retransmits(c net.Conn) (n int, unacknowledged bool) {
	if c, ok := c.(interface{ Retransmits() (int, bool) }); ok {
		return c.Retransmits()
	}
	return kernelRetransmits(c)
}
