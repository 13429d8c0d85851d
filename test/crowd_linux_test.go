package test

import (
	"fmt"
	"testing"
	"time"
)

// usage is what a program holds.
type usage struct {
	goroutines, descriptors float64
	heap, resident, replay  float64 // bytes
}

func (n numbers) usage() usage {
	n.t.Helper()
	return usage{
		goroutines: n.read("go_goroutines"), descriptors: n.read("process_open_fds"),
		heap: n.read("go_memstats_heap_alloc_bytes"), resident: n.read("process_resident_memory_bytes"),
		replay: n.read("sshka_replay_buffer_bytes"),
	}
}

func (u usage) String() string {
	const mib = 1 << 20
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, heap %.1f MiB, resident %.1f MiB, replay %.0f bytes",
		u.goroutines, u.descriptors, u.heap/mib, u.resident/mib, u.replay)
}

// A crowd of sessions on one link, which is cut again and again; and when all of
// them have ended, neither program holds anything of theirs.
func TestACrowdOutlivesCutsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	const cuts = 20
	sessions, every := pick(100, 500), pick(100*time.Millisecond, 250*time.Millisecond)
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.serveEchoes(t)
	l.startDaemon(t, settings{"heartbeat": strictBeats})
	near, far := l.numbers(t, client, proxyAdmin), l.numbers(t, relay, relayAdmin)
	both := []numbers{near, far}
	// What the first sessions and the first cut make for good is no leak.
	l.crowd(t, 10, 1, talk{lines: 4, every: every}, near)
	var before [2]usage
	for i, n := range both {
		n.expect(equal(0), "sshka_replay_buffer_bytes")
		before[i] = n.usage()
	}

	l.crowd(t, sessions, cuts, talk{lines: 4, every: every}, near)

	const (
		slackGoroutines  = 4 // the admin address answers us meanwhile
		slackDescriptors = 4
		slackHeap        = 24 << 20 // garbage that nothing has collected yet
		collectedHeap    = 4 << 20
		slackResident    = 48 << 20 // which the runtime gives back when it likes
	)
	// The runtime collects at latest after two minutes, and what is pooled with the
	// second time.
	slack, wait := pick(slackHeap, collectedHeap), pick(patience, 5*time.Minute)
	for i, n := range both {
		n.expect(equal(0), "sshka_sessions", `state="attached"`)
		n.expect(equal(0), "sshka_sessions", `state="detached"`)
		n.expect(equal(0), "sshka_replay_buffer_bytes")
		n.expect(atMost(before[i].goroutines+slackGoroutines), "go_goroutines")
		n.expect(atMost(before[i].descriptors+slackDescriptors), "process_open_fds")
		n.expectWithin(wait, atMost(before[i].heap+float64(slack)), "go_memstats_heap_alloc_bytes")
		n.expectWithin(wait, atMost(before[i].resident+slackResident), "process_resident_memory_bytes")
		t.Logf("%s before: %s", n.r, before[i])
		t.Logf("%s after:  %s", n.r, n.usage())
	}
}

// crowd lets sessions talk through cuts of the daemon's link, to their end.
func (l *lab) crowd(t *testing.T, sessions, cuts int, how talk, near numbers) {
	t.Helper()
	all := make([]*echo, sessions)
	for i := range all {
		all[i] = l.socksEcho(t, fmt.Sprintf("session %d", i), how)
	}
	near.expect(equal(float64(sessions)), "sshka_sessions", `state="attached"`)
	resumed := near.read("sshka_sessions_resumed_total")
	var longest time.Duration
	for range cuts {
		flows(settleTime, all...)
		l.cutLinks(t)
		resumed += float64(sessions)
		near.expectWithin(settleTime, atLeast(resumed), "sshka_sessions_resumed_total")
	}
	flows(settleTime, all...)
	for _, e := range all {
		longest = max(longest, e.pause())
	}
	heard := 0
	for _, e := range all {
		e.hush()
	}
	for _, e := range all {
		e.finish(settleTime)
		heard += e.heardLines()
	}
	t.Logf("%d sessions heard %d lines through %d cuts, the longest pause was %s", sessions, heard, cuts, longest.Round(time.Millisecond))
}
