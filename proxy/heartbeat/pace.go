package heartbeat

import "time"

// How fast a peer may beat.
const (
	// PaceInterval is the time between beats that a Pace allows for ever.
	PaceInterval = 200 * time.Millisecond
	// PaceBurst is how many beats may come at once: a path that returns after an
	// outage delivers all that were sent into it.
	PaceBurst = 20
	// paceGrace is how long after a warning beats may still be under way.
	paceGrace = 5 * time.Second
	// paceForgive is how long a peer keeps the pace until a warning is forgotten.
	paceForgive = time.Minute
)

// Verdict is what to do about a peer's beat.
type Verdict int

// The verdicts of Pace.Beat.
const (
	// Answer: send a BEAT_ACK.
	Answer Verdict = iota
	// Warn: send a SLOW_DOWN, do not answer.
	Warn
	// Ignore: do not answer.
	Ignore
	// Drop: the peer was warned and goes on; end the link.
	Drop
)

// Pace judges how fast a peer beats: at most one per PaceInterval in the long
// run and PaceBurst at once. The zero Pace is ready. It is not safe for
// concurrent use.
type Pace struct {
	full   time.Duration // when the bucket is full again
	warned bool
	grace  time.Duration // until when excess is forgiven after a warning
	excess int           // beats over the pace since the grace ended
	over   time.Duration // when the last beat over the pace came
}

// Beat judges a beat that arrived now.
func (p *Pace) Beat(now time.Duration) Verdict {
	p.full = max(p.full, now) + PaceInterval
	if p.full-now <= PaceBurst*PaceInterval {
		if p.warned && now-p.over > paceForgive {
			p.warned, p.excess = false, 0
		}
		return Answer
	}
	p.full -= PaceInterval // a beat that is not answered uses nothing
	p.over = now
	switch {
	case !p.warned:
		p.warned, p.grace = true, now+paceGrace
		return Warn
	case now < p.grace:
		return Ignore
	}
	if p.excess++; p.excess > PaceBurst {
		return Drop
	}
	return Ignore
}
