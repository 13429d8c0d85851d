package test

import (
	"slices"
	"testing"
	"time"
)

// What a NAT sees is packets, and only those from the inside that carry payload
// refresh every kind.
func TestABeatLeavesTheClientEveryInterval(t *testing.T) {
	t.Parallel()
	const (
		interval = time.Second
		watch    = 6 * time.Second
		slack    = 400 * time.Millisecond // of a busy machine
	)
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	p := l.ssh(t, l.through(t, nil), targetIP, "cat")
	p.send("ready\n")
	p.expect("ready")

	wire := l.capture(t, nat, "lan")
	from := time.Now()
	idle(watch)
	packets := wire.end()

	var times []time.Time
	for _, packet := range packets {
		if packet.dstPort == relayPort && packet.payload > 0 && packet.at.After(from) {
			times = append(times, packet.at)
		}
	}
	if len(times) == 0 {
		t.Fatalf("of %d packets none carries payload to the relay", len(packets))
	}
	longest := time.Duration(0)
	for i, at := range slices.Concat(times[1:], []time.Time{from.Add(watch)}) {
		longest = max(longest, at.Sub(times[i]))
	}
	longest = max(longest, times[0].Sub(from))
	if longest > interval+slack {
		t.Errorf("the longest silence was %s, want at most %s", longest, interval)
	}
	// A beat and, at worst, an answer to one of the relay's.
	if most := 3 * int(watch/interval); len(times) > most {
		t.Errorf("%d packets in %s, want at most %d: an idle link shall be quiet", len(times), watch, most)
	}
	t.Logf("%d packets with payload in %s, the longest silence %s", len(times), watch, longest.Round(time.Millisecond))
}
