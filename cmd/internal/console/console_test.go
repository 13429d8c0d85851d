package console

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoWaitsIsToldWhatFor: on a terminal, after a second, in one line that is gone
// when something else is said.
func TestWhoWaitsIsToldWhatFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		c := &Console{W: &screen, Terminal: true}
		shown := func() string {
			c.mu.Lock() // the clock orders nothing to the race detector
			defer c.mu.Unlock()
			s := screen.String()
			screen.Reset()
			return s
		}
		past := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}

		done := c.Wait("TCP: waiting for 192.0.2.1:7422")
		past(900 * time.Millisecond)
		if got := shown(); got != "" {
			t.Errorf("before a second is over there is %q", got)
		}
		past(200 * time.Millisecond)
		if got, want := shown(), "\rTCP: waiting for 192.0.2.1:7422 … 1s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		past(time.Second)
		if got, want := shown(), "\rTCP: waiting for 192.0.2.1:7422 … 2s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		wiped := "\r" + strings.Repeat(" ", len([]rune("TCP: waiting for 192.0.2.1:7422 … 2s"))) + "\r"
		fmt.Fprintln(c, "relay is new")
		if got, want := shown(), wiped+"relay is new\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		past(time.Second) // and it goes on below
		shown()
		done()
		if got := shown(); got != wiped {
			t.Errorf("got %q, want %q", got, wiped)
		}
		done()
		past(time.Minute)
		if got := shown(); got != "" {
			t.Errorf("after the end there is %q", got)
		}

		c.Wait("one")
		c.Wait("another" + strings.Repeat("r", 200) + "\x1b[31m")
		past(time.Second)
		if got := shown(); strings.Contains(got, "one") || !strings.HasPrefix(got, "\ranother") || len([]rune(got)) > waitWidth+1 || strings.Contains(got, "\x1b") {
			t.Errorf("got %q", got)
		}
		c.Rest()
		shown()
		c.Rest()
		past(time.Minute)
		if got := shown(); got != "" {
			t.Errorf("at rest there is %q", got)
		}
	})
}

// TestAPipeIsToldNothingOfWaits: what is not a terminal gets results only.
func TestAPipeIsToldNothingOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pipe bytes.Buffer
		c := &Console{W: &pipe}
		done := c.Wait("the relay")
		time.Sleep(time.Minute)
		synctest.Wait()
		done()
		c.Rest()
		if got := pipe.Len(); got > 0 {
			t.Errorf("it has %q", &pipe)
		}
	})
}
