package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/session"
)

// cutter is a connection that is reset once so many bytes have passed in one
// direction: the peer has got these, and not one more.
type cutter struct {
	*simnet.Conn
	up bool

	mu   sync.Mutex // guards left
	left int
}

// pass returns how many of n bytes may go, and whether the rest may not.
func (c *cutter) pass(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := min(n, c.left)
	c.left -= k
	return k, k < n
}

func (c *cutter) Write(p []byte) (int, error) {
	if !c.up {
		return c.Conn.Write(p)
	}
	k, cut := c.pass(len(p))
	if n, err := c.Conn.Write(p[:k]); err != nil {
		return n, err
	}
	if cut { // the rest is in the kernel's buffer for ever
		time.AfterFunc(time.Millisecond, c.Cut)
	}
	return len(p), nil
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.up {
		return c.Conn.Read(p)
	}
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left == 0 {
		c.Cut()
	}
	n, err := c.Conn.Read(p[:min(len(p), max(left, 1))])
	c.pass(n)
	return n, err
}

// cutStep is how far apart the cuts of one run are: all of them take minutes.
func cutStep(t *testing.T) int {
	t.Helper()
	if os.Getenv("SSHKA_SOAK") != "" {
		return 1
	}
	return 131
}

// TestACutAtEveryByte: of TLS, HELLO, the proof of a key, OPEN and the first
// bytes; and on the second link, of the ticket, RESUME and what is sent again.
// Whatever arrives, the session goes on: one dial, every byte, once.
func TestACutAtEveryByte(t *testing.T) {
	request, answer := random(3000), random(5000)
	for _, link := range []int64{1, 2} {
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprintf("link %d, up %v", link, up), func(t *testing.T) {
				step := cutStep(t)
				longest := 0
				for at := int(time.Now().UnixNano() % int64(step)); ; at += step { // another offset every time
					c := &cutter{up: up, left: at}
					cutOnce(t, c, link, request, answer)
					if t.Failed() {
						t.Fatalf("cut at byte %d", at)
					}
					if c.left > 0 { // never came so far
						break
					}
					longest = at
				}
				if longest < 2000 {
					t.Errorf("only %d bytes were ever sent", longest)
				}
			})
		}
	}
}

func cutOnce(t *testing.T, c *cutter, dial int64, request, answer []byte) {
	t.Helper()
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			window: time.Hour,
			wrap: func(n int64, conn *simnet.Conn) net.Conn {
				if n != dial {
					return conn
				}
				c.Conn = conn
				return c
			},
			target: func(c *simnet.Conn) {
				got := make([]byte, len(request))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, request) {
					t.Errorf("the target has read %d bytes, %v", len(got), err)
				}
				c.Write(answer)
				if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
					t.Errorf("the target has read %d bytes more, %v", len(rest), err)
				}
				c.CloseWrite()
			},
		})
		var s *session.Session
		for s == nil { // the first attempt may fail, and say so
			conn, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
			if err == nil {
				s, _ = conn.(*session.Session)
			} else if h.ups.Load() > 0 {
				t.Error(err)
				break
			}
		}
		if s != nil {
			converse(t, h, s, dial, request, answer)
		}
		h.close()
	})
}

// converse says and hears everything, with a cut of the first link in between
// where the second is to be tested.
func converse(t *testing.T, h *house, s *session.Session, dial int64, request, answer []byte) {
	t.Helper()
	s.Write(request[:1000])
	if dial == 2 {
		time.Sleep(2 * time.Second)
		h.cut()
	}
	s.Write(request[1000:])
	s.CloseWrite()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, answer) {
		t.Errorf("the client has read %d bytes, %v", len(got), err)
	}
	if n := h.reached.Load(); n != 1 {
		t.Errorf("the target was dialled %d times", n)
	}
	s.Close()
	<-s.Done()
}

// TestOneDialPerSession: its link is lost while the target is dialled, and the
// OPEN comes again.
func TestOneDialPerSession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, dialTime: 5 * time.Second})
		for i := range 4 {
			time.AfterFunc(time.Duration(i+1)*time.Second, h.cut)
		}
		c := h.dial(t)
		roundTrip(t, c, "hello")
		if n := h.reached.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		if n := c.Stats().Carriers; n < 4 {
			t.Errorf("%d carriers", n)
		}
		c.Close()
		<-c.Done()
		time.Sleep(time.Second)
		if n := h.ended.Load(); n != 1 {
			t.Errorf("%d sessions ended at the relay", n)
		}
		h.close()
	})
}

// TestARefusalIsToldAgain: it was lost with its link.
func TestARefusalIsToldAgain(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, dialErr: fmt.Errorf("no route: %w", net.ErrClosed)})
		if _, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22"); err == nil {
			t.Error("a target that is not there")
		}
		if n := h.reached.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		h.close()
	})
}
