package heartbeat

import (
	"math/rand/v2"
	"testing"
	"time"
)

func none() float64 { return 0 }

// run advances m to each Next until end, with the peer silent, and returns when
// beats were sent and when the peer was lost.
func run(m *Machine, end time.Duration) (beats []time.Duration, misses int, lost time.Duration) {
	for {
		at, ok := m.Next()
		if !ok || at > end {
			return beats, misses, lost
		}
		d := m.Advance(at)
		if d.Beat {
			beats = append(beats, at)
		}
		if d.Missed {
			misses++
		}
		if d.Lost {
			return beats, misses, at
		}
	}
}

func TestSilentPeerIsLostExactly(t *testing.T) {
	const s = time.Second
	tests := []struct {
		p           Policy
		first, lost time.Duration
		misses      int
	}{
		{Policy{60 * s, 60 * s, 3}, 60 * s, 240 * s, 3},
		{Policy{}, 20 * s, 35 * s, 3},
		{Policy{20 * s, 5 * s, 1}, 20 * s, 25 * s, 1},
		{Policy{1 * s, 1 * s, 3}, 1 * s, 4 * s, 3},
		{Policy{1 * s, 5 * s, 2}, 1 * s, 11 * s, 2},
		{Policy{100 * time.Millisecond, 100 * time.Millisecond, 10}, 100 * time.Millisecond, 1100 * time.Millisecond, 10},
	}
	for _, tt := range tests {
		beats, misses, lost := run(New(tt.p, none), time.Hour)
		if beats[0] != tt.first || lost != tt.lost || misses != tt.misses {
			t.Errorf("%+v: first beat %v, lost %v after %d misses; want %v, %v, %d", tt.p, beats[0], lost, misses, tt.first, tt.lost, tt.misses)
		}
		if want := beats[0] + tt.p.DeathTime(); lost != want {
			t.Errorf("%+v: lost at %v, DeathTime says %v", tt.p, lost, want)
		}
	}
}

func TestBeatFollowsAMissAtOnce(t *testing.T) {
	beats, _, _ := run(New(Policy{Interval: 60 * time.Second, Timeout: 5 * time.Second, CountMax: 4}, none), time.Hour)
	want := []time.Duration{60 * time.Second, 65 * time.Second, 70 * time.Second, 75 * time.Second}
	if len(beats) != len(want) {
		t.Fatalf("beats at %v", beats)
	}
	for i := range want {
		if beats[i] != want[i] {
			t.Errorf("beat %d at %v, want %v", i, beats[i], want[i])
		}
	}
}

func TestAnyByteEndsTheRow(t *testing.T) {
	m := New(Policy{20 * time.Second, 5 * time.Second, 3}, none)
	// Two misses, then one byte just before the third deadline.
	for at := 20 * time.Second; at <= 30*time.Second; at += 5 * time.Second {
		m.Advance(at)
	}
	m.Observe(0, 34999*time.Millisecond)
	if d := m.Advance(35 * time.Second); d.Missed || d.Lost {
		t.Fatalf("a byte came, yet %+v", d)
	}
	// The last byte sent is the beat of 30 s, so the next is due at 50 s, and a
	// whole new row is needed to lose the peer.
	beats, misses, lost := run(m, time.Hour)
	if beats[0] != 50*time.Second || misses != 3 || lost != 65*time.Second {
		t.Errorf("next beat %v, then %d misses and lost at %v", beats[0], misses, lost)
	}
}

func TestByteOfTheBeatsOwnInstantIsNoAnswer(t *testing.T) {
	m := New(Policy{20 * time.Second, 5 * time.Second, 1}, none)
	m.Advance(20 * time.Second)
	m.Observe(0, 20*time.Second)
	if d := m.Advance(25 * time.Second); !d.Lost {
		t.Errorf("%+v", d)
	}
}

func TestSilenceInEitherDirectionMakesABeatDue(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct{ sent, received, want time.Duration }{
		"both silent":      {0, 0, 20 * s},
		"nothing sent":     {0, 15 * s, 20 * s},
		"nothing received": {15 * s, 0, 20 * s},
		"busy both ways":   {15 * s, 12 * s, 32 * s},
	} {
		m := New(Policy{}, none)
		m.Observe(tt.sent, tt.received)
		if at, ok := m.Next(); !ok || at != tt.want {
			t.Errorf("%s: due at %v, want %v", name, at, tt.want)
		}
	}
}

func TestABusyLinkNeedsNoBeat(t *testing.T) {
	m := New(Policy{Interval: time.Second}, none)
	for now := time.Duration(0); now < time.Hour; now += 500 * time.Millisecond {
		m.Observe(now, now)
		if d := m.Advance(now); d.Beat {
			t.Fatalf("beat at %v", now)
		}
	}
}

func TestSilenceNeverExceedsTheIntervalWhileAnswersComeLate(t *testing.T) {
	// The peer answers every beat with data at once but with a BEAT_ACK never;
	// interval is shorter than timeout.
	m := New(Policy{Interval: time.Second, Timeout: 5 * time.Second}, none)
	var last time.Duration
	for range 100 {
		at, _ := m.Next()
		m.Observe(0, last+time.Millisecond)
		d := m.Advance(at)
		if d.Missed {
			t.Fatalf("missed at %v", at)
		}
		if d.Beat {
			if at-last > time.Second+time.Millisecond {
				t.Fatalf("silent from %v to %v", last, at)
			}
			last = at
		}
	}
	if last < 50*time.Second {
		t.Fatalf("only %v passed", last)
	}
}

func TestOffNeverBeats(t *testing.T) {
	m := New(Policy{Interval: Off}, none)
	if at, ok := m.Next(); ok {
		t.Errorf("next at %v", at)
	}
	if d := m.Advance(time.Hour); d != (Decision{}) {
		t.Errorf("%+v", d)
	}
}

func TestCountMaxOffNeverLoses(t *testing.T) {
	m := New(Policy{Interval: time.Minute, Timeout: time.Minute, CountMax: Off}, none)
	beats, misses, lost := run(m, 24*time.Hour)
	if lost != 0 || misses != len(beats)-1 || misses < 1000 {
		t.Errorf("%d beats, %d misses, lost at %v", len(beats), misses, lost)
	}
	if m.policy.DeathTime() != 0 {
		t.Errorf("death time %v", m.policy.DeathTime())
	}
}

func TestJitterOnlyShortensTheInterval(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := Policy{20 * time.Second, 5 * time.Second, 3}
	var shortest, longest time.Duration = time.Hour, 0
	m := New(p, r.Float64)
	var last time.Duration
	for range 1000 {
		at, _ := m.Next()
		d := m.Advance(at)
		if !d.Beat {
			t.Fatalf("no beat at %v", at)
		}
		if _, ok := m.Ack(d.Seq, at); !ok {
			t.Fatal("answer refused")
		}
		shortest, longest = min(shortest, at-last), max(longest, at-last)
		last = at
	}
	if shortest < 18*time.Second || longest > 20*time.Second || longest-shortest < time.Second {
		t.Errorf("intervals from %v to %v", shortest, longest)
	}
	// The timeout has none.
	beats, _, lost := run(m, last+time.Hour)
	if lost != beats[0]+15*time.Second {
		t.Errorf("first unanswered at %v, lost at %v", beats[0], lost)
	}
}

func TestAckMeasuresTheLastBeatOnce(t *testing.T) {
	m := New(Policy{20 * time.Second, 5 * time.Second, 3}, none)
	if _, ok := m.Ack(0, 0); ok {
		t.Error("an answer to no beat")
	}
	m.Advance(20 * time.Second)
	m.Advance(25 * time.Second) // missed: beat 2
	if _, ok := m.Ack(1, 26*time.Second); ok {
		t.Error("the answer to an older beat measures nothing")
	}
	m.Observe(0, 26*time.Second) // its bytes count all the same
	if rtt, ok := m.Ack(2, 27*time.Second); !ok || rtt != 2*time.Second {
		t.Errorf("rtt %v %v", rtt, ok)
	}
	if _, ok := m.Ack(2, 28*time.Second); ok {
		t.Error("answered twice")
	}
	if at, _ := m.Next(); at != 45*time.Second {
		t.Errorf("next at %v", at)
	}
}

func TestSlowDownIsObeyedWithinReason(t *testing.T) {
	m := New(Policy{Interval: MinInterval, Timeout: MinInterval}, func() float64 { return 0.999 })
	m.SlowDown(PaceInterval)
	beats, _, _ := run(m, time.Minute)
	for i := 1; i < len(beats); i++ {
		if beats[i]-beats[i-1] < PaceInterval {
			t.Errorf("beats at %v and %v", beats[i-1], beats[i])
		}
	}
	for range 100 {
		m.SlowDown(24 * time.Hour)
	}
	if m.Interval() != time.Hour || m.policy.Timeout != time.Hour {
		t.Errorf("interval %v, timeout %v", m.Interval(), m.policy.Timeout)
	}
}

func TestPace(t *testing.T) {
	var p Pace
	for i := range 10_000 { // for ever at the allowed pace
		if v := p.Beat(time.Duration(i) * PaceInterval); v != Answer {
			t.Fatalf("beat %d: %v", i, v)
		}
	}
	now := 10_000 * PaceInterval
	var got [4]int
	for range 100 { // a path that returns
		got[p.Beat(now)]++
	}
	if got[Answer] < PaceBurst-1 || got[Warn] != 1 || got[Drop] != 0 {
		t.Errorf("burst: %v", got)
	}
	for i := range 1000 { // the peer obeys
		if v := p.Beat(now + time.Minute + time.Duration(i)*PaceInterval); v != Answer {
			t.Fatalf("after the warning, beat %d: %v", i, v)
		}
	}
	for day := range 30 { // a burst now and then is no flood
		for range 50 {
			if v := p.Beat(now + time.Duration(day+1)*24*time.Hour); v == Drop {
				t.Fatalf("dropped on day %d", day)
			}
		}
		for i := range 1000 {
			p.Beat(now + time.Duration(day+1)*24*time.Hour + time.Minute + time.Duration(i)*PaceInterval)
		}
	}
	now += 100 * 24 * time.Hour
	got = [4]int{}
	for i := range 1000 { // the peer does not
		got[p.Beat(now+time.Hour+time.Duration(i)*10*time.Millisecond)]++
	}
	if got[Drop] == 0 {
		t.Errorf("flood: %v", got)
	}
}

func TestDefaultsAndValidate(t *testing.T) {
	if p := (Policy{}).WithDefaults(); p != (Policy{20 * time.Second, 5 * time.Second, 3}) {
		t.Errorf("%+v", p)
	}
	for _, p := range []Policy{{}, {Interval: Off}, {Interval: MinInterval, Timeout: MinInterval}, {CountMax: Off}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Policy{{Interval: time.Millisecond}, {Timeout: time.Millisecond}, {Timeout: -1}} {
		if p.Validate() == nil {
			t.Errorf("%+v accepted", p)
		}
	}
}

func TestAProbeDoubtsSoonAndJudgesAsEver(t *testing.T) {
	const s = time.Second
	m := New(Policy{Interval: 20 * s, Timeout: 5 * s, CountMax: 3}, none)
	if d := m.Probe(7*s, s); !d.Beat || d.Seq != 1 {
		t.Fatalf("%+v", d)
	}
	at, ok := m.Next()
	if at != 8*s || !ok {
		t.Fatalf("next %v, %v", at, ok)
	}
	if d := m.Advance(8 * s); d != (Decision{Suspect: true}) {
		t.Errorf("%+v", d)
	}
	beats, misses, lost := run(m, time.Hour)
	if len(beats) != 2 || misses != 3 || lost != 22*s { // three times 5 s after the probe
		t.Errorf("beats %v, %d misses, lost at %v", beats, misses, lost)
	}
}

func TestAnAnsweredProbeDoubtsNothing(t *testing.T) {
	const s = time.Second
	m := New(Policy{Interval: 20 * s, Timeout: 5 * s}, none)
	m.Probe(7*s, s)
	m.Observe(7*s, 7*s+1)
	if d := m.Advance(8 * s); d != (Decision{}) {
		t.Errorf("%+v", d)
	}
	if at, _ := m.Next(); at != 27*s {
		t.Errorf("next at %v", at)
	}
}

// TestAProbeShortensTheDoubtOfAnOutstandingBeat: a sleep took what was on its way.
func TestAProbeShortensTheDoubtOfAnOutstandingBeat(t *testing.T) {
	const s = time.Second
	m := New(Policy{Interval: 20 * s, Timeout: 15 * s}, none)
	m.Advance(20 * s)
	if d := m.Probe(21*s, s); d.Beat {
		t.Errorf("%+v", d)
	}
	if at, _ := m.Next(); at != 22*s {
		t.Errorf("next at %v", at)
	}
}

func TestEveryMissIsSuspicious(t *testing.T) {
	const s = time.Second
	m := New(Policy{Interval: 20 * s, Timeout: 5 * s}, none)
	m.Advance(20 * s)
	if d := m.Advance(25 * s); !d.Suspect || d.Row != 1 {
		t.Errorf("%+v", d)
	}
	if d := m.Advance(30 * s); !d.Suspect || d.Row != 2 {
		t.Errorf("%+v", d)
	}
}

func TestAProbeWithoutBeatsCountsNothing(t *testing.T) {
	const s = time.Second
	m := New(Policy{Interval: Off, Timeout: 5 * s}, none)
	if d := m.Probe(7*s, s); !d.Beat {
		t.Fatalf("%+v", d)
	}
	if d := m.Advance(8 * s); !d.Suspect || d.Missed {
		t.Errorf("%+v", d)
	}
	if d := m.Advance(12 * s); d != (Decision{}) {
		t.Errorf("%+v", d)
	}
	if at, ok := m.Next(); ok {
		t.Errorf("next at %v", at)
	}
}
