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
}

// run lets bulk fill what the governor gives for so long, and returns the rate of
// the second half and how long bytes have queued in it.
func (s simulated) run(g *governor, last time.Duration) (rate float64, queued []time.Duration) {
	const step = 500 * time.Microsecond
	type packet struct {
		n    int64
		at   time.Duration // arrives at the peer, or its receipt here
		sent time.Duration
	}
	random := rand.New(rand.NewPCG(1, 2))
	var flying []packet    // to the peer
	var receipts []packet  // from it, cumulative in n
	var free time.Duration // when the line has sent all it was given
	var arrived, told, half int64
	var tellAt time.Duration
	for now := time.Duration(0); now < last; now += step {
		for g.room() > 0 {
			n := min(max(int(s.rate*chunkTime.Seconds()), minChunk), g.chunk())
			free = max(free, now) + time.Duration(float64(n)/s.rate*float64(time.Second))
			at := free + s.delay(now)
			if s.loss > 0 && random.Float64() < s.loss*float64(n)/1448 {
				at += 2 * s.delay(now)
			}
			if k := len(flying); k > 0 {
				at = max(at, flying[k-1].at)
			}
			flying = append(flying, packet{int64(n), at, now})
			g.leaving(n)
			g.left(now)
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
		"20 Mbit/s, 50 ms":   {simulated{20e6 / 8, always(25 * time.Millisecond), 0, 0}, 15 * time.Millisecond},
		"100 Mbit/s, 100 ms": {simulated{100e6 / 8, always(50 * time.Millisecond), 0, 0}, 20 * time.Millisecond},
		"1 Gbit/s, 5 ms":     {simulated{1e9 / 8, always(2500 * time.Microsecond), 0, 0}, 15 * time.Millisecond},
		"64 kbit/s, 100 ms":  {simulated{8000, always(50 * time.Millisecond), 0, 0}, time.Second}, // minFlight is half of it
		"10 Mbit/s, 600 ms":  {simulated{10e6 / 8, always(300 * time.Millisecond), 0, 0}, 120 * time.Millisecond},
		// A busy processor that is late by more than the slack must not take the line away.
		"100 Mbit/s, 100 ms, and noise":      {simulated{100e6 / 8, always(50 * time.Millisecond), 8 * time.Millisecond, 0}, 25 * time.Millisecond},
		"100 Mbit/s, 100 ms, and much noise": {simulated{100e6 / 8, always(50 * time.Millisecond), 30 * time.Millisecond, 0}, 50 * time.Millisecond},
		"20 Mbit/s, 50 ms, and much noise":   {simulated{20e6 / 8, always(25 * time.Millisecond), 30 * time.Millisecond, 0}, 50 * time.Millisecond},
		"20 Mbit/s, 50 ms, and more noise":   {simulated{20e6 / 8, always(25 * time.Millisecond), 60 * time.Millisecond, 0}, 100 * time.Millisecond},
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
// is there, and looks like a queue until then.
func TestLostPacketsDoNotHoldTheLine(t *testing.T) {
	g := newGovernor()
	line := simulated{rate: 100e6 / 8, delay: always(25 * time.Millisecond), loss: 0.0005}
	rate, _ := line.run(&g, 20*time.Second)
	if share := rate / line.rate; share < 0.8 {
		t.Errorf("%.2f of the line's rate", share)
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
