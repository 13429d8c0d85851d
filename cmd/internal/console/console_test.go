package main

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
		c := &console{w: &screen, terminal: true}
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

		done := c.wait("TCP: waiting for 192.0.2.1:7422")
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

		c.wait("one")
		c.wait("another" + strings.Repeat("r", 200) + "\x1b[31m")
		past(time.Second)
		if got := shown(); strings.Contains(got, "one") || !strings.HasPrefix(got, "\ranother") || len([]rune(got)) > waitWidth+1 || strings.Contains(got, "\x1b") {
			t.Errorf("got %q", got)
		}
		c.rest()
		shown()
		c.rest()
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
		c := &console{w: &pipe}
		done := c.wait("the relay")
		time.Sleep(time.Minute)
		synctest.Wait()
		done()
		c.rest()
		if got := pipe.Len(); got > 0 {
			t.Errorf("it has %q", &pipe)
		}
	})
}

// TestCheckSaysWhatItWaitsFor: each layer that takes long names itself.
func TestCheckSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []string
		c := &checker{
			wait:   func(what string) func() { waits = append(waits, what); return func() { waits = append(waits, "done") } },
			report: func(f finding) { waits = append(waits, f.Layer) },
		}
		c.begin(layerDNS, "looking up a name")
		c.begin(layerTCP, "connecting")
		c.ok(layerTCP, "well")
		c.ok(layerTLS, "well")
		if got, want := strings.Join(waits, ", "), "DNS: looking up a name, done, TCP: connecting, done, TCP, TLS"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
