package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestSessionsOutliveTheirLinks: bulk both ways, byte-exact, through fifty cuts.
func TestSessionsOutliveTheirLinks(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Rate: 1 << 20, Delay: 5 * time.Millisecond}, window: time.Hour})
		var wg sync.WaitGroup
		var carriers atomic.Uint64
		for i := range 10 {
			c := h.dial(t)
			data := random(1<<20 + i)
			wg.Go(func() {
				c.Write(data)
				c.CloseWrite()
			})
			wg.Go(func() {
				if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
					t.Errorf("session %d: %d bytes, %v", i, len(got), err)
				}
				carriers.Add(c.Stats().Carriers)
			})
		}
		cuts := make(chan struct{})
		wg.Go(func() {
			defer close(cuts)
			for range 50 {
				time.Sleep(200 * time.Millisecond)
				h.cut()
			}
		})
		wg.Wait()
		h.close()
		if n := h.ended.Load(); n != 10 {
			t.Errorf("%d sessions ended at the relay", n)
		}
		if n := carriers.Load(); n < 100 {
			t.Errorf("only %d carriers in all", n)
		}
	})
}

// TestAPauseIsShort: after a cut the echo is back within a second.
func TestAPauseIsShort(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Delay: time.Millisecond}, window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		for range 20 {
			time.Sleep(10 * time.Second)
			h.cut()
			start := time.Now()
			roundTrip(t, c, "after")
			if d := time.Since(start); d > time.Second {
				t.Errorf("a pause of %v", d)
			}
		}
		c.Close()
		h.close()
	})
}

// TestANightOfSilence: the path is gone for eight hours, and back within
// seconds.
func TestANightOfSilence(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{Delay: 10 * time.Millisecond},
			heartbeat: heartbeat.Policy{Interval: time.Second, Timeout: time.Second, CountMax: 3},
			window:    24 * time.Hour,
		})
		c := h.dial(t)
		roundTrip(t, c, "good night")
		h.down.Store(true)
		h.mu.Lock()
		h.uplink.Hole(true)
		h.mu.Unlock()
		time.Sleep(8 * time.Hour)
		io.WriteString(c, "good morning")
		h.down.Store(false)
		start := time.Now()
		got := make([]byte, 12)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "good morning" {
			t.Errorf("%q, %v", got, err)
		}
		if d := time.Since(start); d > 31*time.Second { // the longest pause between attempts
			t.Errorf("took %v", d)
		}
		c.Close()
		h.close()
	})
}

func TestASessionNobodyComesBackForExpires(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Minute})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.down.Store(true)
		h.cut()
		start := time.Now()
		_, err := c.Read(make([]byte, 1))
		var lost *client.LostError
		if !errors.As(err, &lost) || lost.Waited < time.Minute {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d > 62*time.Second {
			t.Errorf("the proxy gave up after %v", d)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if h.ended.Load() != 1 {
			t.Error("the relay still holds the session")
		}
		h.close()
	})
}

// TestOneKeyHoldsSoManySessions: whether their links live or not.
func TestOneKeyHoldsSoManySessions(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, limits: relay.Limits{SessionsPerKey: 3}})
		for range 3 {
			h.dial(t)
		}
		h.cut()
		time.Sleep(time.Minute)
		_, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		var refused *session.RefusedError
		if !errors.As(err, &refused) || refused.Code != wire.CodeBusy {
			t.Errorf("%v", err)
		}
		if n, others := h.hits.of(relay.LimitSessionsPerKey); n != 1 || others != 0 {
			t.Errorf("counted %d times, other limits %d", n, others)
		}
		h.close()
	})
}

func TestATargetThatEndsMeanwhileIsHeardOf(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, target: func(c *simnet.Conn) {
			io.ReadFull(c, make([]byte, 5))
			time.Sleep(10 * time.Second) // while the link is down
			io.WriteString(c, "the end")
			c.CloseWrite()
			io.Copy(io.Discard, c)
		}})
		c := h.dial(t)
		io.WriteString(c, "hello")
		time.Sleep(time.Second)
		h.down.Store(true)
		h.cut()
		time.AfterFunc(time.Minute, func() { h.down.Store(false) })
		got, err := io.ReadAll(c)
		if string(got) != "the end" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		c.Close()
		h.close()
	})
}

// TestAClientThatLeavesMeanwhileLeavesNothing: its reset is told on the next
// link.
func TestAClientThatLeavesMeanwhileLeavesNothing(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.down.Store(true)
		h.cut()
		time.Sleep(time.Second)
		c.Abort(errors.New("gone"))
		time.Sleep(time.Minute)
		h.down.Store(false)
		<-c.Done()
		time.Sleep(time.Second)
		synctest.Wait()
		if h.ended.Load() != 1 {
			t.Error("the relay still holds the session")
		}
		h.close()
	})
}

func TestAnotherKeysSessionIsNotToBeHad(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "mine")
		// A carrier of our own that asks for a session that is not there.
		carrier, err := h.client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		carrier.Write(wire.Append(nil, &wire.Resume{ID: wire.ID{1}, Generation: 9}))
		m, err := wire.Read(carrier)
		refused, ok := m.(*wire.Refused)
		if !ok || refused.Code != wire.CodeUnknown {
			t.Errorf("%+v, %v", m, err)
		}
		carrier.Close()
		var none *session.RefusedError
		if errors.As(c.Err(), &none) {
			t.Error(c.Err())
		}
		c.Close()
		h.close()
	})
}

// TestWhoLeftFirstIsKnown: an sshd that gives up while the link is down looks like
// one that was told to go, unless somebody says so.
func TestWhoLeftFirstIsKnown(t *testing.T) {
	for name, end := range map[string]func(c *simnet.Conn){
		"closed": func(c *simnet.Conn) { c.Close() },
		"reset":  func(c *simnet.Conn) { c.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				h := build(t, options{window: time.Hour, target: func(c *simnet.Conn) {
					io.ReadFull(c, make([]byte, 5))
					time.Sleep(31 * time.Second)
					end(c)
				}})
				c := h.dial(t)
				io.WriteString(c, "hello")
				time.Sleep(time.Second)
				h.down.Store(true)
				h.cut()
				time.AfterFunc(2*time.Minute, func() { h.down.Store(false) })
				_, err := io.ReadAll(c)
				if d := c.TargetLeft(); d.Round(time.Second) != 30*time.Second || (err == nil) != (name == "closed") {
					t.Errorf("left after %v, %v", d, err)
				}
				c.Close()
				h.close()
			})
		})
	}
}
