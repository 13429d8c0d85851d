package link

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/status"
)

// tally is what a link remembers of its beats, for a person.
type tally struct {
	beats, missed uint64
	row           int           // misses since the last byte, as of the last of them
	rowAt         time.Duration // when that was
	sent          time.Duration // when the last beat was
	rtt           time.Duration // of the last that was answered; 0: none was
}

// beat counts a beat.
func (t *tally) beat(now time.Duration) {
	t.beats++
	t.sent = now
}

// miss counts a missed beat.
func (t *tally) miss(row int, now time.Duration) {
	t.missed++
	t.row, t.rowAt = row, now
}

// Snapshot tells how the link is. The other end's name is for the caller to fill
// in.
func (l *Link) Snapshot() status.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.meter.now()
	_, received := l.meter.activity()
	in, out := l.meter.Bytes()
	s := status.Link{
		Age:      status.Seconds(now),
		RTT:      status.Seconds(l.tally.rtt),
		Beats:    l.tally.beats,
		LastByte: status.Seconds(now - received),
		Missed:   l.tally.missed,
		Interval: status.Seconds(l.beats.Interval()),
		Sent:     out,
		Received: in,
	}
	if s.Beats > 0 {
		s.LastBeat = status.Seconds(now - l.tally.sent)
	}
	if received < l.tally.rowAt { // nothing has come since
		s.Row = l.tally.row
	}
	return s
}
