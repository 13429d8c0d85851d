package test

import (
	"testing"
	"time"
)

// What make demo shows is what these tests prove.
func TestTheDemoShowsADeathAndALife(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := l.start(t, client, program(t, "sshka-proxy"), "demo")
	p.expectWithin(time.Minute, "Connection reset by peer")
	p.expectWithin(time.Minute, "no reset, no new login")
	p.wait(0)
	l.quiet(t, p)
}
