package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestCutAtEveryByte cuts one carrier of a session after every number of bytes that
// it ever carries, in either direction: the first with OPEN and OK, the second with
// RESUME and OK, each with the frames around. Of what is on the way back some part
// arrives. The next carrier lives.
func TestCutAtEveryByte(t *testing.T) {
	for _, carrier := range []int{0, 1} {
		for _, toRelay := range []bool{true, false} {
			t.Run(fmt.Sprintf("carrier %d, to the relay: %v", carrier+1, toRelay), func(t *testing.T) {
				most := 1
				for n := 0; n <= most; n++ {
					var carried int
					synctest.Test(t, func(t *testing.T) {
						c := cutSession{carrier: carrier, toRelay: toRelay, at: n}
						carried = c.run(t)
					})
					if t.Failed() {
						t.Fatalf("cut after %d bytes", n)
					}
					// The end is where the cut comes after all that was to be carried.
					most = max(most, min(n+1, carried+1))
				}
				t.Logf("%d places", most)
				if most < 100 {
					t.Errorf("only %d bytes were carried", most)
				}
			})
		}
	}
}

// cutSession is one session with one carrier that is cut.
type cutSession struct {
	carrier int // counted from 0
	toRelay bool
	at      int // bytes that still arrive

	mu       sync.Mutex // guards all below
	relay    *Session
	accepted int
}

const (
	cutQuestion = "a question that travels with the OPEN"
	cutMore     = ", and some more that does not"
	cutAnswer   = "an answer of about the same length"
)

// run returns how many bytes the cut direction carried.
func (c *cutSession) run(t *testing.T) int {
	t.Helper()
	proxy := Open(Config{}, target)
	proxy.m.buffer = 64
	write(t, proxy, cutQuestion)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		<-proxy.Opened()
		time.Sleep(time.Second) // over the second carrier
		if got := conversation(proxy, cutMore); got != cutAnswer {
			t.Errorf("the proxy's application got %q", got)
		}
	})

	carried := 0
	for i := 0; !proxy.ended(); i++ {
		if i > 5 {
			t.Error("carriers without end")
			proxy.Abandon(errors.New("test over"))
			return carried
		}
		// Whole pieces, at a steady pace: the number of bytes decides alone.
		l := newLine(uint64(i), weather{piece: 1, room: 1 << 20}, -1, -1)
		switch {
		case i == c.carrier && c.toRelay:
			l.relay.left = c.at
		case i == c.carrier:
			l.proxy.left = c.at
		case i == 0: // let the second be reached, with bytes on both ways to come
			time.AfterFunc(500*time.Millisecond, l.cut)
		}
		wg.Go(func() { c.serve(t, &wg, l.relay) })
		if err := proxy.Attach(t.Context(), l.proxy, wire.ID{}); errors.Is(err, wire.ErrProtocol) {
			t.Error(err)
		}
		if i == c.carrier {
			to := l.proxy
			if c.toRelay {
				to = l.relay
			}
			carried = l.writtenTo(to)
		}
	}
	if err := proxy.Err(); err != nil {
		t.Errorf("proxy: %v", err)
	}
	synctest.Wait()
	time.Sleep(10 * time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.accepted != 1 {
		t.Errorf("accepted %d times", c.accepted)
	}
	if c.relay == nil {
		return carried
	}
	if err := c.relay.Err(); err != nil {
		t.Errorf("relay: %v", err)
	}
	if !c.relay.ended() { // the very last acknowledgement was cut
		if got := proxy.Final(); got != uint64(len(cutAnswer))+1 {
			t.Errorf("the relay's end goes on, the proxy's has stored %d", got)
		}
		c.relay.Abandon(nil)
	}
	return carried
}

// conversation says its part and returns what the other said.
func conversation(s *Session, say string) string {
	io.WriteString(s, say)
	s.CloseWrite()
	got, err := io.ReadAll(s)
	s.Close()
	if err != nil {
		return err.Error()
	}
	return string(got)
}

// serve is the relay: one session, and its tombstone.
func (c *cutSession) serve(t *testing.T, wg *sync.WaitGroup, carrier io.ReadWriteCloser) {
	t.Helper()
	req, err := Receive(carrier)
	if err != nil {
		carrier.Close()
		return
	}
	c.mu.Lock()
	if c.relay == nil && req.Open != nil {
		c.accepted++
		s := Accept(Config{}, req.Open)
		s.m.buffer = 64
		c.relay = s
		wg.Go(func() {
			<-s.Opened()
			time.Sleep(time.Second)
			if got := conversation(s, cutAnswer); got != cutQuestion+cutMore {
				t.Errorf("the relay's application got %q", got)
			}
		})
	}
	s := c.relay
	c.mu.Unlock()
	switch {
	case s == nil:
		req.Refuse(wire.CodeUnknown, "unknown")
	case s.ended():
		req.Bury(s.Final())
	default:
		if err := s.Answer(context.Background(), req, wire.Secret{1}); errors.Is(err, wire.ErrProtocol) {
			t.Error(err)
		}
	}
}
