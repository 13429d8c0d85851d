package link

import (
	"math"
	"time"
)

// The governor bounds how many bytes of bulk are on their way to the peer, by what
// arrives there: the peer's RECEIPTs, which tell the truth through middleboxes that
// end TCP connections. A keystroke then waits behind a queue of milliseconds, and
// bulk still fills the line. It follows the delivery rate and the least round trip,
// as BBR does (Cardwell et al., ACM Queue 14-5, 2016), in a simpler way.
const (
	// minFlight is the least that may be on its way, in bytes.
	minFlight = 4 << 10
	// startFlight is what may be on its way before anything is known of the line, in
	// bytes: less than TCP itself would send (RFC 6928), since a slow line's queue is
	// short and there may be several links.
	startFlight = 8 << 10
	// queueTime is how much longer than the least a round trip may take before it
	// is taken for a queue of ours, or an eighth of that least where it is more. The
	// peer's receiptTime and a busy processor are in it.
	queueTime = 10 * time.Millisecond
	// nearTime is the round trip of a path that is not governed: what a busy processor
	// adds to it looks like a queue, and cuts would feed on each other.
	nearTime = 3 * time.Millisecond
	// growth is of the limit, in a round without a queue, and how far beyond the target
	// while the line is not full; probe is how far when it is.
	growth = 1.25
	probe  = 1.15
	// startGrowth is of the limit in a round at the start, until there is a queue: TCP's.
	startGrowth = 2
	// badRounds is how many rounds with a queue make a cut: one may be noise.
	badRounds = 2
	// minTime is for how long the least round trip is believed. After that the
	// queue is let run dry for a round, to see it anew.
	minTime = 10 * time.Second
	// maxMarks bounds the memory for when which byte was sent.
	maxMarks = 512
	// markBytes is how far apart such marks are, at least.
	markBytes = 4 << 10
)

// governor is one end's. It is pure: all times are given, since the link began.
type governor struct {
	sent, arrived uint64 // bytes of the link, above TLS; sent counts those being written
	limit         float64
	near          bool // a round trip was once shorter than nearTime
	limited       bool // something waited for room in this round
	starting      bool // grows fast until there is a queue

	marks []mark // when which byte left, the oldest first

	least     time.Duration // round trip in this minTime and the one before
	lastLeast time.Duration
	leastAt   time.Duration // when this one began
	drain     bool          // this round is for seeing the least anew

	roundEnd   uint64        // the round is over when this byte has arrived
	roundStart time.Duration // when it began
	roundFrom  uint64        // what had arrived by then
	roundLeast time.Duration // the shortest round trip in it
	bad        int
	faster     bool // more arrived in the last round than in any before

	rates [rateRounds]float64 // bytes per second, of the last rounds
	round int
}

// rateRounds is over how many rounds the highest delivery rate is believed.
const rateRounds = 8

// mark is when a byte left.
type mark struct {
	offset uint64
	at     time.Duration
}

func newGovernor() governor {
	return governor{limit: startFlight, starting: true, least: math.MaxInt64, lastLeast: math.MaxInt64, roundLeast: math.MaxInt64}
}

// room is how many bytes of bulk may leave now.
func (g *governor) room() int {
	if g.near { // the processors are the only queue
		return maxChunk
	}
	limit := g.limit
	if g.drain {
		limit /= 2
	}
	room := int(max(limit, minFlight)) - int(g.sent-g.arrived)
	if room <= 0 {
		g.limited = true
	}
	return room
}

// leaving counts n bytes that are about to be written. The peer's RECEIPT may be
// here before the write has returned.
func (g *governor) leaving(n int) { g.sent += uint64(n) }

// left notes when the last n bytes of those were written.
func (g *governor) left(n int, now time.Duration) {
	offset := g.sent - uint64(n)
	if g.sent <= g.arrived {
		return // and told already
	}
	if len(g.marks) == 0 || offset-g.marks[len(g.marks)-1].offset >= markBytes && len(g.marks) < maxMarks {
		g.marks = append(g.marks, mark{offset, now})
	}
}

// receipt takes what the peer says has arrived: cumulative bytes. A peer that lies
// harms its own link.
func (g *governor) receipt(arrived uint64, now time.Duration) {
	if arrived <= g.arrived || arrived > g.sent {
		return
	}
	g.arrived = arrived
	// The newest byte that is known to have arrived tells the round trip.
	newest := -1
	for i := range g.marks {
		if g.marks[i].offset >= arrived {
			break
		}
		newest = i
	}
	if newest >= 0 {
		g.roundTrip(now-g.marks[newest].at, now)
		g.marks = append(g.marks[:0], g.marks[newest+1:]...)
	}
	if arrived >= g.roundEnd {
		g.endRound(now)
	}
}

// roundTrip takes a sample, a beat's too.
func (g *governor) roundTrip(rtt, now time.Duration) {
	g.roundLeast = min(g.roundLeast, rtt)
	g.least = min(g.least, rtt)
	g.near = g.near || rtt < nearTime
	if now-g.leastAt > minTime {
		g.leastAt = now
		g.lastLeast, g.least = g.least, rtt
		g.drain = !g.starting
	}
}

// shortest is the least round trip that is believed.
func (g *governor) shortest() time.Duration { return min(g.least, g.lastLeast) }

// slack is how much more than that is no queue.
func (g *governor) slack() time.Duration { return max(g.shortest()/8, queueTime) }

// endRound judges what one round trip's worth of bytes has shown.
func (g *governor) endRound(now time.Duration) {
	took := now - g.roundStart
	g.faster = false
	if g.roundStart > 0 && took > 0 && g.limited {
		rate := float64(g.arrived-g.roundFrom) / took.Seconds()
		g.faster = rate > growth*g.rate()
		g.rates[g.round%rateRounds] = rate
		g.round++
	}
	if g.roundLeast != math.MaxInt64 {
		g.judge(g.roundLeast - g.shortest())
	}
	g.drain = false
	g.limited = false
	g.roundEnd, g.roundStart, g.roundFrom = g.sent, now, g.arrived
	g.roundLeast = math.MaxInt64
}

// judge moves the limit, given how long this round's bytes have queued at least.
func (g *governor) judge(queued time.Duration) {
	slack := g.slack()
	switch {
	case g.drain:
	case queued > slack && g.starting && g.faster:
		// More was sent and more has arrived: that is no full line, but noise.
	case queued > slack:
		if g.bad++; g.bad < badRounds && !g.starting {
			return
		}
		g.bad, g.starting = 0, false
		g.limit = max(g.target(), g.limit/2, minFlight)
	case !g.limited: // nobody wanted more
		g.bad = 0
	case g.starting:
		g.limit *= startGrowth
	default:
		// Beyond the target only a little, to see whether the line has become faster:
		// then the target follows.
		g.bad = 0
		beyond := probe
		if queued < slack/2 {
			beyond = growth
		}
		g.limit = max(min(growth*g.limit, beyond*g.target()), minFlight)
	}
}

// target is what the line carries in the least round trip and the slack.
func (g *governor) target() float64 { return g.rate() * (g.shortest() + g.slack()).Seconds() }

// rate is the line's, in bytes per second, as far as it is known. Zero: not at all.
func (g *governor) rate() float64 {
	rate := 0.0
	for _, r := range g.rates {
		rate = max(rate, r)
	}
	return rate
}
