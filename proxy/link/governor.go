package link

import (
	"math"
	"slices"
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
	// bytes: what TCP itself would send (RFC 6928).
	startFlight = 14 << 10
	// flightChunks is how many chunks the limit is, at least. What leaves in larger pieces
	// arrives in such, and the line's time for one of them looks like a queue.
	flightChunks = 32
	// queueTime is how much longer than the least a round trip may take before it
	// is taken for a queue of ours, or a sixteenth of that least where it is more. The
	// peer's receiptTime is in it.
	queueTime = 6 * time.Millisecond
	// clearQueue is how many times as long is a queue beyond doubt: TCP paces what it
	// sends by what it knows of the line, and a busy processor is late, which looks like a
	// short one.
	clearQueue = 2
	// nearTime is the round trip of a path that is not governed: what a busy processor
	// adds to it looks like a queue, and cuts would feed on each other.
	nearTime = 3 * time.Millisecond
	// growth is of the limit, in a round without a queue, and how far beyond the target it
	// may grow then.
	growth = 1.25
	// startGrowth is by how many times of what arrives the limit grows at the start: by
	// more than TCP's, which is the limit then.
	startGrowth = 1.5
	// fullShare is the share of the line's rate below which a round has not filled it.
	fullShare = 0.9
	// fasterRate is how many times the rate of all rounds before tells that the line was
	// not full in them.
	fasterRate = 1.125
	// minTime is for how long the least round trip is believed. After that the
	// queue is let run dry for a round, to see it anew.
	minTime = 10 * time.Second
	// rateRounds is over how many rounds the highest delivery rate is believed.
	rateRounds = 16
	// maxMarks bounds the memory for when which byte left. There is one each markBytes
	// or markTime, or fewer.
	maxMarks  = 256
	markBytes = 4 << 10
	markTime  = time.Millisecond
	// Bulk waits for a receipt for a sixteenth of a round trip before the kernel is asked,
	// within the first two; and for no longer than the third before it is asked again.
	leastPatience = 3 * time.Millisecond
	maxPatience   = 100 * time.Millisecond
	mostPatience  = time.Second
)

// The steps of seeing the least round trip anew, a round each.
const (
	usual    = iota
	refill   // what met a short queue comes back, and tells nothing of the limit
	drain    // half of the limit may be on its way
	drainDue // and will in the next round
)

// governor is one end's. It is pure: all times are given, since the link began.
type governor struct {
	sent, arrived uint64        // bytes of the link, above TLS; sent counts those being written
	arrivedAt     time.Duration // when the peer said so
	leftAt        time.Duration // when the last of those that have arrived left
	held          float64       // bytes that have left the line, though no receipt tells of them
	limit         float64
	near          bool // a round trip was once shorter than nearTime
	limited       bool // bulk waited in this round, with half of the limit on its way
	starting      bool // grows fast until there is a queue

	marks []mark // when which byte left, the oldest first

	least     time.Duration // round trip in this minTime and the one before
	lastLeast time.Duration
	leastAt   time.Duration // when this one began
	step      int           // of seeing it anew

	noise   time.Duration // how long a round trip took beyond the least with a short queue
	strange int           // rounds with a queue that the limit does not allow, less those without

	roundFrom  uint64        // what had arrived when the round began
	roundAt    time.Duration // and when that was
	roundEnd   uint64        // the round is over when more than this has arrived
	roundLeast time.Duration // the shortest round trip in it

	rates [rateRounds]float64 // bytes per second, the highest in each of the last rounds
	round int
}

// mark is when a byte left, and what was known of those before it.
type mark struct {
	offset            uint64 // one past the byte
	at                time.Duration
	arrived           uint64
	arrivedAt, leftAt time.Duration
}

func newGovernor() governor {
	return governor{limit: startFlight, starting: true, least: math.MaxInt64, lastLeast: math.MaxInt64, roundLeast: math.MaxInt64}
}

// room is how many bytes of bulk may leave now. Bulk waits when it is asked.
func (g *governor) room() int {
	if g.near { // the processors are the only queue
		return maxChunk
	}
	most, flight := g.most(), max(float64(g.sent-g.arrived)-g.held, 0)
	if flight > most/2 {
		g.limited = true
	}
	return int(most - flight)
}

// most is how many bytes may be on their way now.
func (g *governor) most() float64 {
	limit := g.limit
	if g.step == drain {
		limit /= 2
	}
	return max(limit, minFlight)
}

// silence is for how long a receipt could have come at now, if it took no time.
func (g *governor) silence(now time.Duration) time.Duration {
	if len(g.marks) == 0 {
		return 0
	}
	return now - max(g.arrivedAt, g.marks[0].at)
}

// patience is how long bulk waits for a receipt at now before the kernel is asked, and asked
// again: ever longer where the path is broken.
func (g *governor) patience(now time.Duration) time.Duration {
	usual := max(min(g.shortest()/16, maxPatience), leastPatience)
	return min(max(usual, g.silence(now)/16), mostPatience)
}

// late reports whether a receipt is late at now, beyond what the line's least round trip, a
// slow line or a busy processor takes: since the last one, or since there is anything to
// tell of.
func (g *governor) late(now time.Duration) bool {
	if len(g.marks) == 0 || g.shortest() == math.MaxInt64 {
		return false
	}
	spacing := time.Duration(min(2*receiptBytes/max(g.rate(), 1), 1) * float64(time.Second))
	due := max(g.arrivedAt, g.marks[0].at+g.shortest())
	return now-due >= max(2*g.patience(now), spacing)
}

// kernel takes what the kernel says while bulk waits for a receipt: onLine bytes have not
// reached the other end of its connection, and whether some that have wait there behind a
// lost packet. What has reached it is not on the line, though no receipt tells of it: that
// packet holds it up, or it is the receipt that is held up. The connection may end at a
// middlebox, before the line that counts, so that this is believed only when something is
// lost, and only for as much as may be on its way.
func (g *governor) kernel(onLine int, hole bool, now time.Duration) {
	g.held = 0
	there := float64(g.sent-g.arrived) - float64(onLine)
	if there <= 0 || !hole && !g.late(now) {
		return
	}
	// By the time it is asked again, more will be there.
	g.held = min(there+g.rate()*g.patience(now).Seconds(), g.most())
}

// chunk is how many bytes of bulk may leave together.
func (g *governor) chunk() int {
	if g.near {
		return maxChunk
	}
	return int(min(max(g.limit/flightChunks, minChunk), maxChunk))
}

// leaving counts n bytes that are about to be written. The peer's RECEIPT may be
// here before the write has returned.
func (g *governor) leaving(n int) { g.sent += uint64(n) }

// left notes that they are written.
func (g *governor) left(now time.Duration) {
	if g.sent <= g.arrived {
		return // and told already
	}
	if n := len(g.marks); n > 0 {
		if last := g.marks[n-1]; g.sent-last.offset < markBytes && now-last.at < markTime {
			return
		}
		if n == maxMarks { // every second one has to do
			for i := range n / 2 {
				g.marks[i] = g.marks[2*i+1]
			}
			g.marks = g.marks[:n/2]
		}
	}
	g.marks = append(g.marks, mark{g.sent, now, g.arrived, g.arrivedAt, g.leftAt})
}

// receipt takes what the peer says has arrived: cumulative bytes, the last of them just
// now. A peer that lies harms its own link.
func (g *governor) receipt(arrived uint64, now time.Duration) {
	before := g.arrived
	if m, ok := g.reached(arrived, now); ok {
		g.roundTrip(now-m.at, now)
		g.grow(arrived-before, now-m.at)
		if g.limited {
			// What a lost packet has held up arrives all at once: it did not leave so fast.
			took := max(now-m.arrivedAt, m.at-m.leftAt, 1)
			rate := &g.rates[g.round%rateRounds]
			*rate = max(*rate, float64(arrived-m.arrived)/took.Seconds())
		}
	}
	g.endRound(now)
}

// answered takes a beat's answer: what had left before the beat has arrived.
func (g *governor) answered(arrived uint64, rtt, now time.Duration) {
	before := g.arrived
	g.roundTrip(rtt, now)
	g.reached(arrived, now)
	g.grow(g.arrived-before, rtt)
	g.endRound(now)
}

// grow is the growth at the start, when n bytes have arrived and did not queue.
func (g *governor) grow(n uint64, rtt time.Duration) {
	if g.starting && g.limited && rtt-g.shortest() <= g.slack() {
		g.limit += startGrowth * float64(n)
	}
}

// reached takes that so many bytes have arrived, and returns the newest mark of them
// if it is a new one.
func (g *governor) reached(arrived uint64, now time.Duration) (newest mark, ok bool) {
	if arrived <= g.arrived || arrived > g.sent {
		return mark{}, false
	}
	g.arrived, g.arrivedAt, g.held = arrived, now, 0
	n := 0
	for n < len(g.marks) && g.marks[n].offset <= arrived {
		n++
	}
	if n == 0 {
		return mark{}, false
	}
	newest = g.marks[n-1]
	g.leftAt = newest.at
	if n == len(g.marks) {
		g.marks = nil // the link may be idle for hours
	} else {
		g.marks = append(g.marks[:0], g.marks[n:]...)
	}
	return newest, true
}

// roundTrip takes a sample, a beat's too.
func (g *governor) roundTrip(rtt, now time.Duration) {
	g.roundLeast = min(g.roundLeast, rtt)
	g.least = min(g.least, rtt)
	g.near = g.near || rtt < nearTime
	if now-g.leastAt > minTime {
		g.leastAt = now
		g.lastLeast, g.least = g.least, rtt
		if !g.starting {
			g.step = drainDue
		}
	}
}

// shortest is the least round trip that is believed.
func (g *governor) shortest() time.Duration { return min(g.least, g.lastLeast) }

// slack is how much more than that is no queue.
func (g *governor) slack() time.Duration { return max(g.shortest()/16, queueTime, g.noise) }

// endRound judges what one round trip's worth of bytes has shown, once a byte that was
// sent in the round has arrived.
func (g *governor) endRound(now time.Duration) {
	if g.arrived <= g.roundEnd {
		return
	}
	if g.limited && g.roundLeast != math.MaxInt64 {
		if queued := g.roundLeast - g.shortest(); g.step == refill {
			g.noise = queued
		} else if g.step != drain {
			g.judge(queued, float64(g.arrived-g.roundFrom)/max(now-g.roundAt, 1).Seconds())
		}
		g.round++
		g.rates[g.round%rateRounds] = 0
	}
	if g.step > usual {
		g.step--
	}
	g.limited = false
	g.roundEnd, g.roundFrom, g.roundAt = g.sent, g.arrived, now
	g.roundLeast = math.MaxInt64
}

// judge moves the limit, given how long this round's bytes have queued at least, and
// how many arrived in a second.
func (g *governor) judge(queued time.Duration, arrival float64) {
	target, slack := g.target(), g.slack()
	g.doubt(queued, target)
	switch {
	case g.starting && queued > clearQueue*slack && !g.faster():
		g.starting = false
		g.limit = target
	case g.starting:
	case queued < slack && g.faster():
		g.starting = true // again: it has ended too early, or the line is another one
	case queued < slack/2, queued < clearQueue*slack && arrival < fullShare*g.rate():
		// Beyond the target only a little, to see whether the line has become faster:
		// then the target follows. Or the line was not full, though something waited: a lost
		// packet or a busy processor has held up what came after it.
		g.limit = max(min(growth*target, growth*g.limit), g.limit)
	default:
		g.limit = min(max(target, g.limit/growth), growth*g.limit)
	}
	g.limit = max(g.limit, minFlight)
}

// doubt counts rounds with a queue that a limit at the target does not allow. After many
// of them it is to be seen what remains of it with half of the limit: that is not ours.
func (g *governor) doubt(queued time.Duration, target float64) {
	switch {
	case g.starting, queued <= clearQueue*g.slack():
		g.strange = max(g.strange-1, 0)
	case g.limit > target:
	case g.strange < rateRounds:
		g.strange++
	default:
		g.strange, g.step = 0, drainDue
	}
}

// target is what the line carries in the least round trip and the slack.
func (g *governor) target() float64 { return g.rate() * (g.shortest() + g.slack()).Seconds() }

// rate is the line's, in bytes per second, as far as it is known. Zero: not at all.
func (g *governor) rate() float64 { return slices.Max(g.rates[:]) }

// faster reports whether more arrived in this round than in any before: then the line
// was not full, and what looks like a queue is noise.
func (g *governor) faster() bool {
	now := g.rates[g.round%rateRounds]
	others := 0.0
	for i, rate := range g.rates {
		if i != g.round%rateRounds {
			others = max(others, rate)
		}
	}
	return now > fasterRate*others
}
