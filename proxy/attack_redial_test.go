package proxy_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/notice"
)

// TestAttackARelayThatLetsInAndCloses is not dialled hundreds of times a second.
func TestAttackARelayThatLetsInAndCloses(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, wrap: func(_ int64, c *simnet.Conn) net.Conn {
			time.AfterFunc(90*time.Millisecond, c.Cut) // soon after its WELCOME
			return c
		}})
		time.Sleep(time.Minute)
		links, dials := h.ups.Load(), h.dials.Load()
		if links < 60 || dials > 240 { // one in 90 ms and 250 ms, about
			t.Errorf("%d links, %d dials in a minute", links, dials)
		}
		h.close()
	})
}

// TestAttackAnEndingRelayIsNotHurried: it has said when to come back.
func TestAttackAnEndingRelayIsNotHurried(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var dialled []time.Time
		h := build(t, options{line: defaults, window: time.Hour, hang: func(int64) bool {
			mu.Lock()
			defer mu.Unlock()
			dialled = append(dialled, time.Now())
			return false
		}})
		c := h.dial(t)
		roundTrip(t, c, "before")
		time.Sleep(10 * time.Second)
		start := time.Now()
		h.stopServ()
		time.Sleep(10 * time.Second)
		h.close()
		mu.Lock()
		defer mu.Unlock()
		if len(dialled) < 3 {
			t.Fatalf("%d dials", len(dialled))
		}
		if d := dialled[1].Sub(start); d < time.Second {
			t.Errorf("dialled %v after the relay's farewell, which said a second", d)
		}
	})
}

// TestAttackAFalseAlarmDropsWhatItBegan: attempts that nobody wants any more end, and
// one that succeeds late replaces nothing.
func TestAttackAFalseAlarmDropsWhatItBegan(t *testing.T) {
	for name, hangs := range map[string]bool{"hangs": true, "succeeds late": false} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				h := build(t, options{line: defaults, window: time.Hour, hang: func(n int64) bool {
					if n == 2 && !hangs {
						time.Sleep(2500 * time.Millisecond)
					}
					return n > 1 && hangs
				}})
				c := h.dial(t)
				roundTrip(t, c, "before")
				h.falseAlarm(t, 500*time.Millisecond)
				if n := h.dials.Load(); n != 2 {
					t.Fatalf("%d dials", n)
				}
				time.Sleep(1500 * time.Millisecond) // an attempt in a hurry has 3 s
				if n := h.hung.Load(); n != 0 {
					t.Errorf("%d attempts of %d go on after the false alarm", n, h.dials.Load())
				}
				time.Sleep(10 * time.Second)
				if n := h.ups.Load(); n != 1 || c.Stats().Carriers != 1 {
					t.Errorf("%d links, %d carriers", n, c.Stats().Carriers)
				}
				roundTrip(t, c, "after")
				c.Close()
				time.Sleep(time.Second)
				h.close()
			})
		})
	}
}

// TestAttackFalseAlarmsAreHeardLessAndLess: a path that stalls again and again costs
// fewer links each time, and for five minutes at most.
func TestAttackFalseAlarmsAreHeardLessAndLess(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{Delay: 200 * time.Millisecond},
			heartbeat: heartbeat.Policy{Interval: 5 * time.Second, Timeout: time.Second, CountMax: heartbeat.Off},
			window:    time.Hour,
		})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.mu.Lock()
		first := h.paths[0]
		h.mu.Unlock()
		alarm := func() {
			first.Hole(true)
			for doubts := h.doubts.Load(); h.doubts.Load() == doubts; {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(500 * time.Millisecond)
			first.Hole(false)
			time.Sleep(2 * time.Second)
		}
		// quiet is how soon after an alarm another one is heard.
		quiet := func() time.Duration {
			start, dials := time.Now(), h.dials.Load()
			for h.dials.Load() == dials && time.Since(start) < time.Hour {
				alarm()
			}
			return time.Since(start)
		}
		quiet()
		atFirst, now := quiet(), time.Duration(0)
		for range 3 {
			now = quiet()
		}
		if now < 3*atFirst {
			t.Errorf("quiet for %v after the first alarm, for %v after many", atFirst, now)
		}
		for range 6 {
			now = quiet()
		}
		if now > 6*time.Minute {
			t.Errorf("quiet for %v at last", now)
		}
		if n := h.ups.Load(); n != 1 {
			t.Errorf("%d links", n)
		}
		c.Close()
		time.Sleep(time.Minute)
		h.close()
	})
}

// at is a connection that comes from an address of this computer.
type at struct {
	*simnet.Conn
	local net.Addr
}

func (c at) LocalAddr() net.Addr { return c.local }

// TestALinkWhoseAddressIsGoneIsReplacedAtOnce: nothing will ever arrive there. One
// whose address is still there gets its second to answer.
func TestALinkWhoseAddressIsGoneIsReplacedAtOnce(t *testing.T) {
	for local, want := range map[string]time.Duration{
		"192.0.2.99:40000": 0, // RFC 5737: nobody's
		"127.0.0.1:40000":  time.Second,
	} {
		t.Run(local, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				notices := make(chan notice.Event)
				h := build(t, options{
					line: defaults, window: time.Hour, notices: notices,
					wrap: func(_ int64, c *simnet.Conn) net.Conn { return at{c, simnet.Addr(local)} },
				})
				c := h.dial(t)
				roundTrip(t, c, "before")
				h.hole(true)
				notices <- notice.NetworkChanged
				if d := echoed(t, c); d < want || d > want+500*time.Millisecond {
					t.Errorf("a pause of %v, want %v and a handshake", d, want)
				}
				c.Close()
				time.Sleep(time.Second)
				h.close()
			})
		})
	}
}
