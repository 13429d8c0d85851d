package proxy_test

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// carrier opens one, about which nobody says anything.
func (h *house) carrier(t *testing.T) *client.Carrier {
	t.Helper()
	c, err := h.client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAttackCarriersThatSayNothing: each has as long as a handshake, also one whose
// OPEN trickles in, and a link has so many of them. Its session notices nothing.
func TestAttackCarriersThatSayNothing(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const most = 4
		h := build(t, options{line: defaults, window: time.Hour, limits: relay.Limits{SessionsPerLink: most}})
		s := h.dial(t)
		roundTrip(t, s, "before")

		var wg sync.WaitGroup
		took := make([]time.Duration, most+3)
		start := time.Now()
		for i := range took {
			c := h.carrier(t)
			if i == 0 {
				wg.Go(func() {
					open := append(wire.AppendHeader(nil, wire.Header{Type: wire.TypeOpen, Length: 1000}), make([]byte, 1000)...)
					for len(open) > 0 {
						if _, err := c.Write(open[:1]); err != nil {
							return
						}
						open = open[1:]
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(io.Discard, c)
				took[i] = time.Since(start)
			})
		}
		time.Sleep(time.Second)
		roundTrip(t, s, "meanwhile")
		wg.Wait()
		for i, d := range took {
			switch {
			case i < most && (d < transport.DefaultHandshakeTimeout || d > transport.DefaultHandshakeTimeout+time.Second):
				t.Errorf("carrier %d was closed after %v, want %v", i, d, transport.DefaultHandshakeTimeout)
			case i >= most && d > time.Second:
				t.Errorf("carrier %d, of %d, was closed after %v", i, most, d)
			}
		}
		roundTrip(t, h.dial(t), "afterwards")
		if n := h.ups.Load(); n != 1 {
			t.Errorf("%d links", n)
		}
		h.close()
	})
}

// TestAttackAFloodOfStreamsEndsItsLink: of streams that the proxy never closes. What
// the link carried goes on over another.
func TestAttackAFloodOfStreamsEndsItsLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const perLink = 4
		h := build(t, options{line: defaults, window: time.Hour, limits: relay.Limits{SessionsPerLink: perLink}})
		s := h.dial(t)
		roundTrip(t, s, "before")
		var all []*client.Carrier
		for len(all) < 100 && h.ups.Load() == 1 {
			all = append(all, h.carrier(t))
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(all); n < 3*perLink || n > 5*perLink {
			t.Errorf("a link for %d sessions ended with %d streams", perLink, n)
		}
		roundTrip(t, s, "after")
		for _, c := range all {
			c.Close()
		}
		h.close()
	})
}

// TestAttackFirstFramesOfCarriers: what is no request is not answered, dials nothing
// and ends its carrier alone.
func TestAttackFirstFramesOfCarriers(t *testing.T) {
	frame := func(m wire.Message) []byte { return wire.Append(nil, m) }
	open := frame(&wire.Open{ID: wire.ID{7}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}})
	for name, says := range map[string][]byte{
		"nonsense":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"an oversize OPEN":     {byte(wire.TypeOpen), 0xff, 0xff, 0xff},
		"an oversize unknown":  {0x99, 0xff, 0xff, 0xff},
		"DATA":                 append(wire.AppendDataHeader(nil, 0, 5), "hello"...),
		"OK":                   frame(&wire.OK{}),
		"RESET":                frame(&wire.Reset{}),
		"HELLO":                frame(&wire.Hello{MinVersion: 1, MaxVersion: 1}),
		"BEAT":                 frame(&wire.Beat{Seq: 1}),
		"OPEN with bytes over": append(wire.AppendHeader(nil, wire.Header{Type: wire.TypeOpen, Length: wire.MaxFrame - wire.HeaderSize}), bytes.Repeat([]byte{0xff}, wire.MaxFrame)...),
		"half an OPEN":         append(wire.AppendHeader(nil, wire.Header{Type: wire.TypeOpen, Length: 3}), open[wire.HeaderSize:wire.HeaderSize+3]...),
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				h := build(t, options{line: defaults, window: time.Hour})
				s := h.dial(t)
				roundTrip(t, s, "before")
				c := h.carrier(t)
				start := time.Now()
				go c.Write(says)
				if answer, err := io.ReadAll(c); err != nil || len(answer) > 0 {
					t.Errorf("answered %q, %v", answer, err)
				}
				if d := time.Since(start); d > time.Second {
					t.Errorf("its carrier ended after %v", d)
				}
				c.Close()
				roundTrip(t, s, "after")
				if h.reached.Load() != 1 || h.ups.Load() != 1 {
					t.Errorf("%d dials, %d links", h.reached.Load(), h.ups.Load())
				}
				h.close()
			})
		})
	}
}

// TestAttackGuessedSessions: an id that nobody has is not told from one that was, and
// a RESUME that comes before its OPEN was answered gets nothing.
func TestAttackGuessedSessions(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, dialTime: 5 * time.Second})
		for i := range 100 {
			m := h.ask(t, &wire.Resume{ID: wire.ID{1, byte(i)}, Generation: 1})
			refused, ok := m.(*wire.Refused)
			if !ok || refused.Code != wire.CodeUnknown {
				t.Fatalf("a guess is answered %+v", m)
			}
		}
		c := h.carrier(t)
		c.Write(wire.Append(nil, &wire.Open{ID: wire.ID{7}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}}))
		time.Sleep(time.Second)
		m := h.ask(t, &wire.Resume{ID: wire.ID{7}, Generation: 2})
		if refused, ok := m.(*wire.Refused); !ok || refused.Code != wire.CodeUnknown {
			t.Errorf("a session that is being dialled: %+v", m)
		}
		if m, err := wire.Read(c); err != nil || m.Type() != wire.TypeOK {
			t.Errorf("its OPEN: %+v, %v", m, err)
		}
		c.Close()
		h.close()
	})
}

// TestAttackTwoResumesAtOnce: of two carriers that ask for the same session with the
// same generation one gets it, and no byte is lost or comes twice.
func TestAttackTwoResumesAtOnce(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour})
		id := wire.ID{7}
		if _, ok := h.ask(t, &wire.Open{ID: id, Generation: 1, Limit: 1 << 20, Target: wire.Target{Host: "10.1.2.3", Port: 22}}).(*wire.OK); !ok {
			t.Fatal("not opened")
		}
		time.Sleep(time.Second)
		answers := make([]wire.Message, 8)
		all := make([]*client.Carrier, len(answers))
		var wg sync.WaitGroup
		for i := range all {
			all[i] = h.carrier(t)
			wg.Go(func() {
				all[i].Write(wire.Append(nil, &wire.Resume{ID: id, Generation: 2, Limit: 1 << 20}))
				answers[i], _ = wire.Read(all[i])
			})
		}
		wg.Wait()
		attached := 0
		for i, m := range answers {
			switch m.(type) {
			case *wire.OK:
				attached++
				c := all[i]
				c.Write(append(wire.AppendDataHeader(nil, 0, 5), "hello"...))
				for {
					m, err := wire.Read(c)
					if d, ok := m.(*wire.Data); err != nil || ok {
						if !ok || string(d.Bytes) != "hello" || d.Offset != 0 {
							t.Errorf("echoed %+v, %v", m, err)
						}
						break
					}
				}
			case nil: // closed
			default:
				t.Errorf("answered %+v", m)
			}
		}
		if attached != 1 {
			t.Errorf("%d carriers have the session", attached)
		}
		for _, c := range all {
			c.Close()
		}
		h.close()
	})
}
