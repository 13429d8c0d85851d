package relay

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// caller is a connection that comes from somewhere and notices that it is closed.
type caller struct {
	net.Conn
	from   string
	closed bool
}

func (c *caller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}

func (c *caller) Close() error {
	c.closed = true
	return nil
}

func TestWhoeverFillsTheLobbyTurnsOutHisOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := 0
		l := newLobby(256, func() { full++ })
		var flood []*caller
		for i := range 10_000 {
			if full > 0 != (i > 256) {
				t.Fatalf("told %d times that it is full, with %d in it", full, i)
			}
			c := &caller{from: fmt.Sprintf("203.0.113.7:%d", 1024+i)}
			if l.enter(c) != nil {
				flood = append(flood, c)
			}
			time.Sleep(time.Millisecond)
		}
		for i := range 200 { // one second of others, each from its own place
			c := &caller{from: fmt.Sprintf("198.51.%d.%d:5000", i/250, i%250+1)}
			s := l.enter(c)
			if s == nil {
				t.Fatalf("caller %d was not let in", i)
			}
			for range 20 { // and the flood goes on
				l.enter(&caller{from: "203.0.113.7:9"})
			}
			if c.closed || l.turnedOut(s) {
				t.Fatalf("caller %d was turned out", i)
			}
			l.leave(s)
			time.Sleep(5 * time.Millisecond)
		}
		if l.n > 256 {
			t.Errorf("%d in a lobby for 256", l.n)
		}
		if !flood[0].closed {
			t.Error("the oldest of the flood is still there")
		}
	})
}

// TestASlowGuestOutlivesAFlood: who has been there for longest, and came alone, is not
// the one who goes.
func TestASlowGuestOutlivesAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(256, func() {})
		slow := &caller{from: "198.51.100.1:5000"}
		s := l.enter(slow)
		for i := range 10_000 {
			time.Sleep(time.Millisecond)
			l.enter(&caller{from: fmt.Sprintf("203.0.113.7:%d", 1024+i)})
		}
		if slow.closed || l.turnedOut(s) {
			t.Error("turned out for a flood from elsewhere")
		}
	})
}

// TestAStormIsNotThrashed: five thousand links come back at once, from behind one NAT
// or from anywhere. Those that are in go on; the others come again.
func TestAStormIsNotThrashed(t *testing.T) {
	for _, sources := range []int{1, 4, 5000} {
		t.Run(fmt.Sprintf("from %d places", sources), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				full := 0
				l := newLobby(256, func() { full++ })
				var in []*stranger
				for i := range 5000 {
					place := i % sources
					if s := l.enter(&caller{from: fmt.Sprintf("203.0.%d.%d:%d", place/250, place%250+1, 1024+i)}); s != nil {
						in = append(in, s)
					}
				}
				if len(in) != 256 || full != 5000-256 {
					t.Errorf("%d were let in, %d found it full", len(in), full)
				}
				for _, s := range in {
					if l.turnedOut(s) {
						t.Error("turned out in the middle of a handshake")
						break
					}
					l.leave(s)
				}
				if l.n != 0 || len(l.sources) != 0 {
					t.Errorf("%d left, of %d sources", l.n, len(l.sources))
				}
			})
		})
	}
}

// TestTheOldestOfManyPlacesMakesRoom: where nobody takes more than others, who has been
// there for longest goes, once no honest handshake takes so long.
func TestTheOldestOfManyPlacesMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLobby(256, func() {})
		var in []*stranger
		for i := range 256 {
			in = append(in, l.enter(&caller{from: fmt.Sprintf("203.0.113.%d:5000", i)}))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(youngGuest)
		for i := range 5 {
			if l.enter(&caller{from: fmt.Sprintf("198.51.100.%d:5000", i)}) == nil {
				t.Errorf("caller %d was not let in", i)
			}
		}
		for i, s := range in {
			if out := l.turnedOut(s); out != (i < 5) {
				t.Errorf("stranger %d was turned out: %v", i, out)
			}
		}
	})
}

func TestASourceIsAnAddressOrANetwork(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:5":              "192.0.2.1/32",
		"[::ffff:192.0.2.1]:5":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":         "fe80::/64",
	} {
		if got := prefixOf(&caller{from: from}).String(); got != want {
			t.Errorf("%s: %s", from, got)
		}
	}
}
