package link

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simulated is a line with a queue before it, and a peer that sends receipts.
type simulated struct {
	rate  float64                               // bytes per second
	delay func(now time.Duration) time.Duration // one way
	noise time.Duration                         // a busy processor: each receipt comes up to so much later
	loss  float64                               // the share of packets that come a round trip later, as does what is after them
	both  bool                                  // receipts are lost, too
	knows bool                                  // the kernel is asked what is on the line
	box   bool                                  // and sees a middlebox, which takes everything at once
}

// run lets bulk fill what the governor gives for so long, and returns the rate of
// the second half and how long bytes have queued in it.
func (s simulated) run(g *governor, last time.Duration) (rate float64, queued []time.Duration) {
	const step = 500 * time.Microsecond
	type packet struct {
		n     int64
		at    time.Duration // arrives at the peer, or its receipt here
		sent  time.Duration
		there time.Duration // arrives at the peer's kernel
	}
	random := rand.New(rand.NewPCG(1, 2))
	var flying []packet    // to the peer
	var receipts []packet  // from it, cumulative in n
	var free time.Duration // when the line has sent all it was given
	var arrived, told, half int64
	var tellAt, asked time.Duration
	var onLine []packet // as the kernel sees it
	for now := time.Duration(0); now < last; now += step {
		for g.room() > 0 {
			n := min(max(int(s.rate*chunkTime.Seconds()), minChunk), g.chunk())
			free = max(free, now) + time.Duration(float64(n)/s.rate*float64(time.Second))
			at := free + s.delay(now)
			if s.loss > 0 && random.Float64() < s.loss*float64(n)/1448 {
				at += 2 * s.delay(now)
			}
			there := at
			if k := len(flying); k > 0 {
				at = max(at, flying[k-1].at)
			}
			flying = append(flying, packet{int64(n), at, now, there})
			onLine = append(onLine, packet{n: int64(n), at: at, there: there + s.delay(now)})
			g.leaving(n)
			g.left(now)
		}
		if s.knows && min(g.silence(now), now-asked) >= g.patience(now) {
			asked = now
			onLine = slices.DeleteFunc(onLine, func(p packet) bool { return p.there <= now })
			var bytes int64
			for _, p := range onLine {
				bytes += p.n
			}
			hole := slices.ContainsFunc(flying, func(p packet) bool { return p.there+s.delay(now) <= now && p.at > p.there })
			if s.box {
				bytes, hole = 0, false
			}
			g.kernel(int(bytes), hole, now)
		}
		for len(flying) > 0 && flying[0].at <= now {
			arrived += flying[0].n
			if now > last/2 {
				queued = append(queued, flying[0].at-flying[0].sent-s.delay(now))
				half += flying[0].n
			}
			flying = flying[1:]
			if tellAt == 0 && arrived-told >= receiptBytes {
				tellAt = now + receiptTime
			}
		}
		if tellAt != 0 && now >= tellAt {
			tellAt, told = 0, arrived
			at := now + s.delay(now)
			if s.noise > 0 {
				at += time.Duration(random.Int64N(int64(s.noise)))
			}
			if s.both && random.Float64() < s.loss {
				at += 2 * s.delay(now)
			}
			if k := len(receipts); s.both && k > 0 {
				at = max(at, receipts[k-1].at)
			}
			receipts = append(receipts, packet{n: arrived, at: at})
		}
		for len(receipts) > 0 && receipts[0].at <= now {
			g.receipt(uint64(receipts[0].n), now)
			receipts = receipts[1:]
		}
	}
	return float64(half) / (last / 2).Seconds(), queued
}

func always(d time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return d }
}

// TestTheGovernorFillsTheLineAndNotItsQueue.
func TestTheGovernorFillsTheLineAndNotItsQueue(t *testing.T) {
	for name, tt := range map[string]struct {
		line  simulated
		queue time.Duration // at most, for half of all bytes
	}{
		"20 Mbit/s, 50 ms":                       {simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond)}, 15 * time.Millisecond},
		"100 Mbit/s, 100 ms":                     {simulated{rate: 100e6 / 8, delay: always(50 * time.Millisecond)}, 20 * time.Millisecond},
		"1 Gbit/s, 5 ms":                         {simulated{rate: 1e9 / 8, delay: always(2500 * time.Microsecond)}, 15 * time.Millisecond},
		"64 kbit/s, 100 ms":                      {simulated{rate: 8000, delay: always(50 * time.Millisecond)}, time.Second}, // minFlight is half of it
		"10 Mbit/s, 600 ms":                      {simulated{rate: 10e6 / 8, delay: always(300 * time.Millisecond)}, 120 * time.Millisecond},
		"20 Mbit/s, 50 ms, behind a middlebox":   {simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond), knows: true, box: true}, 15 * time.Millisecond},
		"1 Mbit/s, 50 ms, behind a middlebox":    {simulated{rate: 1e6 / 8, delay: always(25 * time.Millisecond), knows: true, box: true}, 60 * time.Millisecond},
		"100 Mbit/s, 100 ms, behind a middlebox": {simulated{rate: 100e6 / 8, delay: always(50 * time.Millisecond), knows: true, box: true}, 20 * time.Millisecond},
		// A busy processor that is late by more than the slack must not take the line away.
		"100 Mbit/s, 100 ms, and noise":      {simulated{rate: 100e6 / 8, delay: always(50 * time.Millisecond), noise: 8 * time.Millisecond}, 25 * time.Millisecond},
		"100 Mbit/s, 100 ms, and much noise": {simulated{rate: 100e6 / 8, delay: always(50 * time.Millisecond), noise: 30 * time.Millisecond}, 50 * time.Millisecond},
		"20 Mbit/s, 50 ms, and much noise":   {simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond), noise: 30 * time.Millisecond}, 50 * time.Millisecond},
		"20 Mbit/s, 50 ms, and more noise":   {simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond), noise: 60 * time.Millisecond}, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGovernor()
			rate, queued := tt.line.run(&g, 40*time.Second)
			least := 0.93
			if tt.line.noise > tt.line.delay(0) {
				least = 0.85
			}
			if share := rate / tt.line.rate; share < least {
				t.Errorf("%.2f of the line's rate", share)
			}
			slices.Sort(queued)
			half := queued[len(queued)/2]
			if half > tt.queue {
				t.Errorf("half of the bytes wait longer than %v, want %v", half, tt.queue)
			}
			t.Logf("%.2f of the line's rate, half of the bytes wait longer than %v", rate/tt.line.rate, half)
		})
	}
}

// TestThePathMayGetLonger: then what was the least round trip is no longer to be
// had, and must not be waited for.
func TestThePathMayGetLonger(t *testing.T) {
	g := newGovernor()
	line := simulated{rate: 50e6 / 8, delay: func(now time.Duration) time.Duration {
		if now < 15*time.Second {
			return 10 * time.Millisecond
		}
		return 80 * time.Millisecond
	}}
	rate, _ := line.run(&g, 2*time.Minute)
	if share := rate / line.rate; share < 0.85 {
		t.Errorf("%.2f of the line's rate, long after the change", share)
	}
}

// TestTheStartIsShort: ten rounds after the first byte the line is full.
func TestTheStartIsShort(t *testing.T) {
	for name, line := range map[string]simulated{
		"100 Mbit/s, 100 ms": {rate: 100e6 / 8, delay: always(50 * time.Millisecond)},
		"20 Mbit/s, 100 ms":  {rate: 20e6 / 8, delay: always(50 * time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGovernor()
			rate, _ := line.run(&g, 2*time.Second)
			if share := rate / line.rate; share < 0.95 {
				t.Errorf("%.2f of the line's rate, from the first second on", share)
			}
		})
	}
}

// TestLostPacketsDoNotHoldTheLine: what came after a lost packet counts only once that
// is there, and looks like a queue until then. The kernel knows better, where it is asked.
func TestLostPacketsDoNotHoldTheLine(t *testing.T) {
	for name, tt := range map[string]struct {
		loss        float64
		both, knows bool
		least       float64
	}{
		"few":                       {loss: 0.0005, least: 0.8},
		"few, the kernel knows":     {loss: 0.0005, knows: true, least: 0.97},
		"as many as on a long line": {loss: 0.001, both: true, knows: true, least: 0.97},
		"many":                      {loss: 0.01, both: true, knows: true, least: 0.9},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGovernor()
			line := simulated{rate: 100e6 / 8, delay: always(25 * time.Millisecond), loss: tt.loss, both: tt.both, knows: tt.knows}
			rate, _ := line.run(&g, 20*time.Second)
			if share := rate / line.rate; share < tt.least {
				t.Errorf("%.2f of the line's rate", share)
			}
			t.Logf("%.2f of the line's rate", rate/line.rate)
		})
	}
}

// TestABurstAfterAPauseIsNotLate: what has only just left cannot have been told of, though
// a middlebox has taken it all.
func TestABurstAfterAPauseIsNotLate(t *testing.T) {
	for _, pause := range []time.Duration{50 * time.Millisecond, time.Second} {
		g := newGovernor()
		simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond)}.run(&g, 20*time.Second)
		now := 21 * time.Second
		g.receipt(g.sent, now)
		now += pause
		burst := func() (n int) {
			for g.room() > 0 {
				n += g.chunk()
				g.leaving(g.chunk())
				g.left(now)
			}
			return n
		}
		first := burst()
		for range 5 {
			now += g.patience(now)
			g.kernel(0, false, now)
			if more := burst(); more > 0 {
				t.Errorf("after %v, %d bytes of a burst have left, and %d more before a receipt could be there", pause, first, more)
			}
		}
	}
}

// TestABrokenPathIsAskedAboutSeldom.
func TestABrokenPathIsAskedAboutSeldom(t *testing.T) {
	g := newGovernor()
	simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond)}.run(&g, 20*time.Second)
	asked := 0
	for now := 20 * time.Second; now < 3*time.Minute; now += g.patience(now) {
		asked++
	}
	if asked > 300 {
		t.Errorf("the kernel is asked %d times", asked)
	}
}

// TestTheLineRunsDryWhateverTheKernelSays, in the round that shows the least round trip.
func TestTheLineRunsDryWhateverTheKernelSays(t *testing.T) {
	g := newGovernor()
	simulated{rate: 20e6 / 8, delay: always(25 * time.Millisecond)}.run(&g, 20*time.Second)
	now := 21 * time.Second
	g.receipt(g.sent, now)
	g.step = drain
	for range 10 {
		for g.room() > 0 {
			g.leaving(g.chunk())
			g.left(now)
		}
		now += g.patience(now)
		g.kernel(0, true, now)
	}
	if flight := float64(g.sent - g.arrived); flight > 1.1*g.limit {
		t.Errorf("%.0f bytes have left with no receipt, half of %.0f may be on their way", flight, g.limit)
	}
}

// TestTypingTellsNothingOfTheLine: of what is typed the peer tells when enough has come
// together, or a beat is answered. How long that takes is not the line's doing.
func TestTypingTellsNothingOfTheLine(t *testing.T) {
	const rtt, keys = 100 * time.Millisecond, 100
	g := newGovernor()
	now, told := time.Second, uint64(0)
	for range 500 {
		g.leaving(keys)
		g.left(now)
		if g.sent-told >= receiptBytes {
			told = g.sent
			g.receipt(told, now+rtt)
		}
		now += 150 * time.Millisecond
	}
	g.leaving(keys)
	g.left(now)
	now += 20 * time.Second
	g.answered(g.sent, rtt, now)
	if g.shortest() != rtt {
		t.Errorf("the least round trip is %v, want %v", g.shortest(), rtt)
	}
	if !g.starting || g.limit < startFlight {
		t.Errorf("bulk begins with %.0f bytes, starting: %v", g.limit, g.starting)
	}
}

// TestBulkLeavesInSmallParts of what may be on its way, or it would arrive in bursts.
func TestBulkLeavesInSmallParts(t *testing.T) {
	g := newGovernor()
	for limit, want := range map[float64]int{minFlight: minChunk, 1 << 20: 32 << 10, 1 << 30: maxChunk} {
		g.limit = limit
		if got := g.chunk(); got != want {
			t.Errorf("of %.0f: %d, want %d", limit, got, want)
		}
	}
}

// TestAPeerThatLiesChangesNothing: about what was never sent, or backwards.
func TestAPeerThatLiesChangesNothing(t *testing.T) {
	g := newGovernor()
	g.leaving(100_000)
	g.left(time.Second)
	g.receipt(50_000, 2*time.Second)
	before := g.room()
	g.receipt(1<<60, 3*time.Second)
	g.receipt(10, 3*time.Second)
	if g.room() != before {
		t.Errorf("room for %d, then for %d", before, g.room())
	}
}

// TestANearPathIsNotGoverned: there a busy processor looks like a queue.
func TestANearPathIsNotGoverned(t *testing.T) {
	g := newGovernor()
	now := time.Second
	for i := range 1000 {
		g.leaving(1 << 20)
		g.left(now)
		took := time.Millisecond // at first, and then the processors are busy
		if i > 10 {
			took = 50 * time.Millisecond
		}
		now += took
		g.receipt(g.sent, now)
		if g.room() < maxChunk {
			t.Fatalf("round %d: room for %d", i, g.room())
		}
	}
}

// TestAReceiptMayBeFasterThanTheWriter: a busy processor lets the peer's receipt in
// before the write of the bytes it is for has returned. It counts, since no other
// comes for them.
func TestAReceiptMayBeFasterThanTheWriter(t *testing.T) {
	g := newGovernor()
	for now := time.Second; now < time.Minute; now += time.Second {
		if g.room() < minFlight {
			t.Fatalf("after %v there is room for %d bytes, and nothing is on its way", now, g.room())
		}
		g.leaving(maxChunk)
		g.receipt(g.sent, now)
		g.left(now)
	}
	if len(g.marks) > 0 {
		t.Errorf("%d marks are kept of what has arrived", len(g.marks))
	}
}
