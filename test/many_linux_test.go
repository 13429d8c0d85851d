package test

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Fifty people at once, each with an sshka-proxy of their own; and when they have
// left, the relay holds nothing of theirs.
func TestFiftySessionsAtOnceLeaveNothingAtTheRelay(t *testing.T) {
	const sessions, busy = 50, time.Minute
	l := newLab(t)
	server := l.startRelay(t, relayPort, nil)
	through := l.through(t, nil)
	// What the first session makes for good, such as the poller, is no leak.
	l.ssh(t, through, targetIP, "true").wait(0)
	before := l.settle(server, 0)

	all := make([]*process, sessions)
	for i := range all {
		all[i] = l.ssh(t, through, targetIP, `while read -r line; do echo "heard $line"; done`)
	}
	for i, p := range all {
		p.send(fmt.Sprintf("first %d\n", i))
	}
	for i, p := range all {
		p.expectWithin(busy, fmt.Sprintf("heard first %d\n", i))
	}
	if during := descriptors(server); during < before+2*sessions {
		t.Errorf("the relay has %d descriptors open during %d sessions and %d without: these do not pass through it", during, sessions, before)
	}
	for i, p := range all { // all of them live at this point
		p.send(fmt.Sprintf("last %d\n", i))
		p.stdin.Close()
	}
	for i, p := range all {
		p.waitWithin(busy, 0)
		want := fmt.Sprintf("heard first %d\nheard last %[1]d\n", i)
		if got := p.stdout.String(); got != want {
			t.Errorf("session %d: got %q, want %q", i, got, want)
		}
		l.quiet(t, p)
	}
	if after := l.settle(server, before); after > before {
		t.Errorf("the relay has %d descriptors open after %d sessions, %d before", after, sessions, before)
	}
}

// settle returns how many descriptors p has open, once there are no more than
// limit or patience is over. With limit 0 it waits for the number to stand still.
func (l *lab) settle(p *process, limit int) int {
	n := descriptors(p)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if p.endsWithin(200 * time.Millisecond) {
			l.t.Fatalf("%s ended with %d", p.name, p.status)
		}
		last := n
		n = descriptors(p)
		if limit > 0 && n <= limit || limit == 0 && n == last {
			break
		}
	}
	return n
}

func descriptors(p *process) int {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(open)
}
