package session

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Rules that our own two ends never need towards each other, and so the model test
// cannot hold: another implementation may rely on them (docs/protocol.md §5).

// answer attaches the relay's end to a hand-made carrier and returns its peer,
// after OK.
func answer(t *testing.T, s *Session, generation, received, limit uint64) *lineEnd {
	t.Helper()
	l := newLine(generation, weather{piece: 1000, room: 1 << 20}, -1, -1)
	t.Cleanup(func() { l.proxy.Close() })
	r := &Request{Resume: &wire.Resume{Generation: generation, Received: received, Limit: limit}, c: l.relay}
	go s.Answer(t.Context(), r, wire.Secret{1})
	if m, err := wire.Read(l.proxy); err != nil || m.Type() != wire.TypeOK {
		t.Fatal(m, err)
	}
	return l.proxy
}

// data reads the next frame, which has to be DATA.
func data(t *testing.T, c *lineEnd) *wire.Data {
	t.Helper()
	m, err := wire.Read(c)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := m.(*wire.Data)
	if !ok {
		t.Fatalf("%s instead of DATA", m.Type())
	}
	return d
}

func TestAnOlderAcknowledgementIsNormal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Accept(Config{}, &wire.Open{ID: wire.ID{9}, Target: target})
		write(t, s, "0123456789")
		c := answer(t, s, 1, 0, 100)
		if d := data(t, c); string(d.Bytes) != "0123456789" {
			t.Fatalf("%d: %q", d.Offset, d.Bytes)
		}
		c.Write(wire.Append(nil, &wire.Ack{Received: 8, Limit: 100}))
		c.Write(wire.Append(nil, &wire.Ack{Received: 5, Limit: 100}))
		synctest.Wait()
		time.Sleep(time.Second)
		// A RESUME may have been written before the ACKs, too.
		c = answer(t, s, 2, 4, 100)
		if d := data(t, c); d.Offset != 8 || string(d.Bytes) != "89" {
			t.Errorf("%d: %q", d.Offset, d.Bytes)
		}
		if err := s.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestASmallerLimitIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Accept(Config{}, &wire.Open{ID: wire.ID{9}, Target: target})
		answer(t, s, 1, 0, 100)
		time.Sleep(time.Second)
		c := answer(t, s, 2, 0, 3)
		write(t, s, "0123456789")
		if d := data(t, c); string(d.Bytes) != "0123456789" {
			t.Errorf("%d: %q", d.Offset, d.Bytes)
		}
	})
}

func TestTheSameGenerationIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Accept(Config{}, &wire.Open{ID: wire.ID{9}, Target: target})
		answer(t, s, 3, 0, 100)
		time.Sleep(time.Second)
		for _, generation := range []uint64{3, 2} {
			l := newLine(1, weather{piece: 1000, room: 1 << 20}, -1, -1)
			err := s.Answer(t.Context(), &Request{Resume: &wire.Resume{Generation: generation}, c: l.relay}, wire.Secret{})
			if !errors.Is(err, ErrMoved) || l.answered() {
				t.Errorf("generation %d: answered %v, %v", generation, l.answered(), err)
			}
		}
		if !s.Stats().Attached {
			t.Error("the session has left its carrier")
		}
	})
}

func TestAcknowledgementGoesBeforeData(t *testing.T) {
	m := newMachine(100_000, nil)
	m.outLimit = 1 << 20
	m.write(make([]byte, 50_000))
	if err := m.store(0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	h, err := wire.ParseHeader([wire.HeaderSize]byte(m.frames(make([]byte, 0, wire.MaxFrame), false)))
	if err != nil || h.Type != wire.TypeAck {
		t.Errorf("%s goes first, %v", h.Type, err)
	}
}

// frames is called before over wherever both are, so that only the unlucky moment
// between a FIN and the loss of its carrier shows this rule in a whole session.
func TestNoEndBeforeTheFinIsAcknowledged(t *testing.T) {
	m := newMachine(1000, nil)
	m.closeWrite()
	b := m.frames(make([]byte, 0, wire.MaxFrame), false)
	if err := errors.Join(m.handle(&wire.Ack{Received: 1}), m.handle(&wire.Fin{})); err != nil {
		t.Fatal(err)
	}
	if m.over() {
		t.Error("over before the peer knows that its FIN has come")
	}
	if b = m.frames(b[:0], false); len(b) == 0 || !m.over() {
		t.Errorf("told in %d bytes, over: %v", len(b), m.over())
	}
}
