package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"golang.org/x/net/nettest"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

var target = wire.Target{Host: "db.internal", Port: 22}

// ends are both ends of a session, with what runs beneath them.
type ends struct {
	proxy, relay *Session
	wg           sync.WaitGroup
	proxyErr     error // of the last Attach
	relayErr     error // of the last Answer
}

// open joins a new session over the carriers a and b and returns once it is
// open.
func open(ctx context.Context, t testing.TB, cfg Config, a, b io.ReadWriteCloser) *ends {
	t.Helper()
	e := &ends{proxy: Open(cfg, target)}
	accepted := make(chan struct{})
	e.wg.Go(func() { e.proxyErr = e.proxy.Attach(ctx, a, wire.ID{}) })
	e.wg.Go(func() {
		r, err := Receive(b)
		if err != nil {
			t.Error(err)
			close(accepted)
			return
		}
		e.relay = Accept(cfg, r.Open)
		close(accepted)
		e.relayErr = e.relay.Answer(ctx, r, wire.Secret{1})
	})
	<-accepted
	<-e.proxy.Opened()
	<-e.relay.Opened()
	return e
}

// resume carries the session on over new carriers, once the ends have left the
// old.
func (e *ends) resume(ctx context.Context, a, b io.ReadWriteCloser) {
	e.wg.Wait()
	e.wg.Go(func() { e.proxyErr = e.proxy.Attach(ctx, a, wire.ID{}) })
	e.wg.Go(func() {
		r, err := Receive(b)
		if err != nil {
			b.Close() // cut before it began
			return
		}
		if e.relay.ended() { // its last acknowledgement was lost
			r.Bury(e.relay.Final())
			return
		}
		e.relayErr = e.relay.Answer(ctx, r, wire.Secret{1})
	})
}

// pipe returns two ends of an in-memory carrier that buffers n bytes each way.
func pipe() (net.Conn, net.Conn) { return net.Pipe() }

func TestConn(t *testing.T) {
	for name, buffer := range map[string]int{"default buffer": 0, "smallest buffer": MinBuffer} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ctx, cancel := context.WithCancel(context.Background())
				a, b := pipe()
				e := open(ctx, t, Config{Buffer: buffer}, a, b)
				return e.proxy, e.relay, func() {
					e.proxy.Close()
					e.relay.Close()
					cancel()
					e.wg.Wait()
				}, nil
			})
		})
	}
}

// TestConnOverLaterCarriers runs the same conformance tests while the carrier is
// cut under the session again and again.
func TestConnOverLaterCarriers(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		ctx, cancel := context.WithCancel(context.Background())
		a, b := pipe()
		e := open(ctx, t, Config{Buffer: MinBuffer}, a, b)
		cut := make(chan struct{})
		go func() {
			defer close(cut)
			for i := 0; i < 20 && ctx.Err() == nil; i++ {
				a.Close()
				a, b = pipe()
				e.resume(ctx, a, b)
				select { // a carrier lives for some frames only
				case <-ctx.Done():
				case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
				}
			}
		}()
		return e.proxy, e.relay, func() {
			e.proxy.Close()
			e.relay.Close()
			cancel()
			<-cut
			e.wg.Wait()
		}, nil
	})
}

func TestEndsCleanlyWhenBothDirectionsHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		write(t, e.proxy, "question")
		e.proxy.CloseWrite()
		if got, err := io.ReadAll(e.relay); string(got) != "question" || err != nil {
			t.Fatalf("relay read %q, %v", got, err)
		}
		time.Sleep(10 * time.Hour) // one direction silent for hours
		write(t, e.relay, "answer")
		e.relay.CloseWrite()
		if got, err := io.ReadAll(e.proxy); string(got) != "answer" || err != nil {
			t.Fatalf("proxy read %q, %v", got, err)
		}
		e.wg.Wait()
		<-e.proxy.Done()
		<-e.relay.Done()
		if e.proxyErr != nil || e.relayErr != nil || e.proxy.Err() != nil || e.relay.Err() != nil {
			t.Errorf("errors %v, %v, %v, %v", e.proxyErr, e.relayErr, e.proxy.Err(), e.relay.Err())
		}
	})
}

func TestReaderThatStopsForMinutesHoldsTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{Buffer: MinBuffer}, a, b)
		data := random(1 << 20)
		done := false
		go func() {
			e.proxy.Write(data)
			e.proxy.CloseWrite()
			done = true
		}()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if done {
			t.Error("the writer did not wait")
		}
		if held := e.relay.m.in.len(); held != MinBuffer {
			t.Errorf("the relay's end holds %d bytes, credit is %d", held, MinBuffer)
		}
		got, err := io.ReadAll(e.relay)
		if !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		e.relay.Close()
		e.wg.Wait()
	})
}

func TestAcknowledgedWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		write(t, e.proxy, "x")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if st := e.proxy.Stats(); st.Acked != 1 {
			t.Errorf("acknowledged %d bytes", st.Acked)
		}
		if e.proxy.m.out.chunks != nil {
			t.Error("an idle session holds memory")
		}
		e.proxy.Close()
		e.relay.Close()
		e.wg.Wait()
	})
}

func TestResetReachesThePeerWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		write(t, e.relay, "last words")
		synctest.Wait()
		e.relay.Reset(wire.CodeTargetReset, "the target reset the connection")
		got, err := io.ReadAll(e.proxy)
		var reset *ResetError
		if string(got) != "last words" || !errors.As(err, &reset) || reset.Code != wire.CodeTargetReset || reset.Local {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := e.proxy.Write([]byte("x")); !errors.As(err, &reset) {
			t.Errorf("write: %v", err)
		}
		e.wg.Wait() // both ends know
		if e.proxyErr != nil || e.relayErr != nil {
			t.Errorf("%v, %v", e.proxyErr, e.relayErr)
		}
	})
}

// TestWhatCameBeforeATargetsResetIsDelivered, though there is no carrier when it comes, and
// more than the peer has room for.
func TestWhatCameBeforeATargetsResetIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{Buffer: 4 * MinBuffer}, a, b)
		write(t, e.relay, "before the cut")
		synctest.Wait()
		a.Close()
		e.wg.Wait()
		last := strings.Repeat("too many authentication failures\n", 5000) // more than a window
		write(t, e.relay, last)
		e.relay.Abort(syscall.ENOTCONN) // as half-closing it says, once it was reset
		e.relay.Close()
		if _, err := e.relay.Write([]byte("x")); err == nil {
			t.Error("what comes after it is taken")
		}
		a, b = pipe()
		e.resume(t.Context(), a, b)
		got, err := io.ReadAll(e.proxy)
		var reset *ResetError
		if want := "before the cut" + last; string(got) != want || !errors.As(err, &reset) || reset.Code != wire.CodeTargetReset {
			t.Errorf("%d bytes of %d, then %v", len(got), len(want), err)
		}
		e.wg.Wait()
		if e.relayErr != nil || e.proxyErr != nil {
			t.Errorf("%v, %v", e.relayErr, e.proxyErr)
		}
	})
}

// TestATargetsResetDoesNotWaitForOneThatDoesNotRead, but does for one that may not be there.
func TestATargetsResetDoesNotWaitForOneThatDoesNotRead(t *testing.T) {
	for _, silence := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			a, b := pipe()
			e := open(t.Context(), t, Config{Buffer: MinBuffer}, a, &silencer{b, silence})
			start := time.Now()
			taken := make(chan int, 1)
			go func() { // more than the peer takes
				n, _ := e.relay.Write(make([]byte, 3*MinBuffer))
				taken <- n
			}()
			synctest.Wait()
			e.relay.Abort(syscall.ECONNRESET)
			e.relay.Close()
			time.Sleep(5 * lastWordsTime)
			select {
			case <-e.relay.Done():
				if silence > 0 {
					t.Error("the peer was not heard of, and what it was to read was given up")
				}
			default:
				if silence == 0 {
					t.Errorf("after %v the peer has not been told", time.Since(start))
				}
			}
			n := <-taken
			got, err := io.ReadAll(e.proxy)
			var reset *ResetError
			if !errors.As(err, &reset) || reset.Code != wire.CodeTargetReset || silence > 0 && len(got) != n {
				t.Errorf("%d bytes of %d, then %v", len(got), n, err)
			}
			e.wg.Wait()
		})
	}
}

// silencer is a carrier whose peer may not be there.
type silencer struct {
	io.ReadWriteCloser
	silence time.Duration
}

func (c *silencer) Silence() time.Duration { return c.silence }

// TestAClientThatHasGoneIsNoTargetsReset: ssh was killed, and our own stdout breaks.
func TestAClientThatHasGoneIsNoTargetsReset(t *testing.T) {
	for _, errno := range []error{syscall.EPIPE, syscall.ECONNRESET} {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		e.proxy.Abort(&os.PathError{Op: "write", Path: "|1", Err: errno})
		_, err := io.ReadAll(e.relay)
		for name, err := range map[string]error{"the relay": err, "the proxy": e.proxy.Err()} {
			var reset *ResetError
			if !errors.As(err, &reset) || reset.Code != wire.CodeAborted {
				t.Errorf("%s is told %v", name, err)
			}
		}
	}
}

func TestCloseWithUnreadDataIsAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		write(t, e.relay, "unread")
		synctest.Wait()
		e.proxy.Close()
		_, err := io.ReadAll(e.relay)
		var reset *ResetError
		if !errors.As(err, &reset) || reset.Code != wire.CodeAborted {
			t.Errorf("%v", err)
		}
		e.wg.Wait()
	})
}

func TestCloseIsNotHeldByASilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{}, a, b)
		start := time.Now()
		e.proxy.Close() // the peer reads nothing and ends nothing
		e.wg.Wait()
		if d := time.Since(start); d < lingerTime || d > 2*lingerTime+time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		e := open(t.Context(), t, Config{Buffer: MinBuffer}, a, b)
		data := random(MinBuffer)
		e.proxy.Write(data)
		e.proxy.Close()
		got, err := io.ReadAll(e.relay)
		if !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		e.relay.Close()
		e.wg.Wait()
		if e.proxyErr != nil || e.proxy.Err() != nil {
			t.Errorf("%v, %v", e.proxyErr, e.proxy.Err())
		}
	})
}

func TestEarlyDataTravelsWithTheOpen(t *testing.T) {
	a, b := pipe()
	s := Open(Config{}, target)
	data := random(wire.MaxEarly + 1000)
	s.Write(data)
	go s.Attach(t.Context(), a, wire.ID{})
	r, err := Receive(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Open.Early, data[:wire.MaxEarly]) || r.Open.Target != target || r.Open.Generation != 1 {
		t.Fatalf("%d early bytes to %v", len(r.Open.Early), r.Open.Target)
	}
	relay := Accept(Config{}, r.Open)
	go relay.Answer(t.Context(), r, wire.Secret{})
	got := make([]byte, len(data))
	if _, err := io.ReadFull(relay, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v", err)
	}
}

// TestWhatPeersSayHarmsNoTerminal: a person reads it on stderr, in ssh's terminal.
func TestWhatPeersSayHarmsNoTerminal(t *testing.T) {
	const evil = "no\x1b[2J \a\u009b2J\r\nsshka-proxy: all is well \u202exe.p"
	for _, err := range []error{
		&RefusedError{Refused: wire.Refused{Code: wire.CodeRefused, Message: evil}},
		&ResetError{Code: wire.CodeProtocol, Message: evil},
	} {
		if i := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%T: %q", err, err.Error())
		}
	}
}

func TestRefusedOpenEndsTheSession(t *testing.T) {
	a, b := pipe()
	s := Open(Config{}, target)
	go func() {
		r, err := Receive(b)
		if err != nil {
			t.Error(err)
			return
		}
		r.Refuse(wire.CodeRefused, "db.internal:22 refused the connection")
	}()
	if err := s.Attach(t.Context(), a, wire.ID{}); err != nil {
		t.Error(err)
	}
	<-s.Opened()
	<-s.Done()
	var refused *RefusedError
	if !errors.As(s.Err(), &refused) || refused.Code != wire.CodeRefused {
		t.Errorf("%v", s.Err())
	}
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &refused) {
		t.Errorf("read: %v", err)
	}
}

func TestAbortBeforeTheAnswerEndsTheWait(t *testing.T) {
	a, b := pipe()
	s := Open(Config{}, target)
	attached := make(chan error)
	go func() { attached <- s.Attach(t.Context(), a, wire.ID{}) }()
	r, err := Receive(b)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	r.Watch(func() { close(gone) })
	s.Abort(errors.New("client gone"))
	if err := <-attached; err != nil {
		t.Error(err)
	}
	<-gone
}

func TestWatchedCarrierLosesNoByte(t *testing.T) {
	a, b := pipe()
	s := Open(Config{}, target)
	go s.Attach(t.Context(), a, wire.ID{})
	r, err := Receive(b)
	if err != nil {
		t.Fatal(err)
	}
	r.Watch(func() {})
	relay := Accept(Config{}, r.Open)
	go relay.Answer(t.Context(), r, wire.Secret{})
	data := random(100_000)
	go func() {
		s.Write(data)
		s.CloseWrite()
	}()
	if got, err := io.ReadAll(relay); !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	relay.Close()
}

func TestContextEndsAttach(t *testing.T) {
	a, b := pipe()
	cause := errors.New("link lost")
	ctx, cancel := context.WithCancelCause(context.Background())
	e := open(ctx, t, Config{}, a, b)
	cancel(cause)
	e.wg.Wait()
	if !errors.Is(e.proxyErr, cause) || !errors.Is(e.relayErr, cause) {
		t.Errorf("%v, %v", e.proxyErr, e.relayErr)
	}
	e.proxy.Abandon(cause)
	if _, err := e.proxy.Read(make([]byte, 1)); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	<-e.proxy.Done()
}

func TestNewerCarrierFencesTheOlder(t *testing.T) {
	a, b := pipe()
	e := open(t.Context(), t, Config{}, a, b)
	a2, b2 := pipe()
	errs := make(chan error, 2)
	go func() { errs <- e.proxy.Attach(t.Context(), a2, wire.ID{}) }()
	r, err := Receive(b2)
	if err != nil {
		t.Fatal(err)
	}
	if r.Resume == nil || r.Resume.Generation != 2 || r.Resume.ID != e.proxy.ID() {
		t.Fatalf("%+v", r)
	}
	go func() { errs <- e.relay.Answer(t.Context(), r, wire.Secret{}) }()
	e.wg.Wait() // the first carrier's both ends return
	if !errors.Is(e.proxyErr, ErrMoved) && !errors.Is(e.relayErr, ErrMoved) {
		t.Errorf("%v, %v", e.proxyErr, e.relayErr)
	}
	write(t, e.proxy, "over the second")
	e.proxy.CloseWrite()
	if got, err := io.ReadAll(e.relay); string(got) != "over the second" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	e.relay.Close()
	e.proxy.Close()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestViolationsResetTheSession(t *testing.T) {
	for name, frame := range map[string]wire.Message{
		"gap":                   &wire.Data{Offset: 5, Bytes: []byte("x")},
		"beyond credit":         &wire.Data{Offset: 0, Bytes: make([]byte, wire.MaxData)},
		"offset overflow":       &wire.Data{Offset: ^uint64(0), Bytes: []byte("xx")},
		"end beyond data":       &wire.Fin{Offset: 9},
		"ack of unsent":         &wire.Ack{Received: 1},
		"control message":       &wire.Beat{Seq: 1},
		"second hello":          &wire.OK{},
		"confirmed no reset":    &wire.ResetAck{},
		"handshake in a stream": &wire.Hello{MinVersion: 1, MaxVersion: 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pipe()
			s := Accept(Config{Buffer: MinBuffer}, &wire.Open{Generation: 1, Target: target, ID: wire.ID{9}})
			s.m.buffer = 1000
			attached := make(chan error, 1)
			go func() {
				attached <- s.Answer(t.Context(), &Request{Open: &wire.Open{Generation: 1}, c: b}, wire.Secret{})
			}()
			if m, err := wire.Read(a); err != nil || m.Type() != wire.TypeOK {
				t.Fatal(m, err)
			}
			go a.Write(wire.Append(nil, frame))
			if m, err := wire.Read(a); err != nil || m.Type() != wire.TypeReset {
				t.Errorf("told %v, %v", m, err)
			}
			if err := <-attached; !errors.Is(err, wire.ErrProtocol) {
				t.Errorf("%v", err)
			}
			var reset *ResetError
			if err := s.Err(); !errors.As(err, &reset) || reset.Code != wire.CodeProtocol {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestDuplicatesAreHarmless(t *testing.T) {
	m := newMachine(1000, nil)
	for _, d := range []wire.Data{
		{Offset: 0, Bytes: []byte("abc")},
		{Offset: 0, Bytes: []byte("abc")},
		{Offset: 1, Bytes: []byte("bcde")},
		{Offset: 5, Bytes: []byte("f")},
		{Offset: 2, Bytes: []byte("c")},
	} {
		if err := m.handle(&d); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 10)
	if n := m.read(got); string(got[:n]) != "abcdef" {
		t.Errorf("%q", got[:n])
	}
}

func TestDataIsStoredBeforeItsFrameIsComplete(t *testing.T) {
	a, b := pipe()
	e := open(t.Context(), t, Config{}, a, b)
	// A second, hand-made carrier whose frame never completes.
	a2, b2 := pipe()
	go e.relay.Answer(t.Context(), &Request{Resume: &wire.Resume{Generation: 7, Limit: 1 << 20}, c: b2}, wire.Secret{})
	if m, err := wire.Read(a2); err != nil || m.Type() != wire.TypeOK {
		t.Fatal(m, err)
	}
	a2.Write(append(wire.AppendDataHeader(nil, 0, 1000), "only this"...))
	got := make([]byte, 9)
	if _, err := io.ReadFull(e.relay, got); err != nil || string(got) != "only this" {
		t.Errorf("%q, %v", got, err)
	}
	if m, err := wire.Read(a2); err != nil {
		t.Error(err)
	} else if ack, ok := m.(*wire.Ack); !ok || ack.Received != 9 {
		t.Errorf("%+v", m)
	}
}

func TestBytesSurviveRandomCuts(t *testing.T) {
	data := [2][]byte{random(3 << 20), random(2 << 20)}
	ctx, cancel := context.WithCancel(context.Background())
	a, b := pipe()
	e := open(ctx, t, Config{Buffer: 128 << 10}, limited(a), b)
	var wg sync.WaitGroup
	for i, s := range []*Session{e.proxy, e.relay} {
		wg.Go(func() {
			s.Write(data[i])
			s.CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(s); !bytes.Equal(got, data[1-i]) || err != nil {
				t.Errorf("end %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	for !e.proxy.ended() || !e.relay.ended() {
		e.wg.Wait()
		if e.proxy.ended() { // a last acknowledgement was lost: tombstones are the relay's
			e.relay.Abandon(nil)
			break
		}
		a, b := pipe()
		e.resume(ctx, limited(a), b)
	}
	wg.Wait()
	cancel()
	if st := e.proxy.Stats(); st.Carriers < 5 {
		t.Errorf("only %d carriers", st.Carriers)
	}
}

// limited closes a carrier after a random number of bytes.
func limited(c net.Conn) net.Conn { return &limitedConn{Conn: c, left: rand.IntN(1 << 19)} }

type limitedConn struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (c *limitedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	n := min(len(p), c.left)
	c.left -= n
	c.mu.Unlock()
	n, err := c.Conn.Write(p[:n])
	if n < len(p) {
		c.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	r.Read(b)
	return b
}
