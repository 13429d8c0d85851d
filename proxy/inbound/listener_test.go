package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/splice"
)

// patience bounds what a test waits for an event that is sure to come.
const patience = 20 * time.Second

// dialled is a target's end of a connection, and what it was dialled for.
type dialled struct {
	*net.TCPConn
	address string
}

// rig is a Server on a loopback port, and the targets it reaches.
type rig struct {
	t       *testing.T
	address string
	targets chan dialled
	refused chan error
	ended   chan splice.Result
	cancel  context.CancelFunc
	done    chan error
}

// newRig serves s, whose Dial, when absent, reaches the test. forward may be "".
func newRig(t *testing.T, s *Server, forward string) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, ln, forward)
}

func serveOn(t *testing.T, s *Server, ln net.Listener, forward string) *rig {
	t.Helper()
	r := &rig{
		t: t, address: ln.Addr().String(),
		targets: make(chan dialled, 64), refused: make(chan error, 64), ended: make(chan splice.Result, 64), done: make(chan error, 1),
	}
	if s.Dial == nil {
		s.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
			ours, theirs := tcpPair(t)
			r.targets <- dialled{theirs, address}
			return ours, nil
		}
	}
	s.Trace = &Trace{
		Refused: func(_ Client, err error) { r.refused <- err },
		Ended:   func(_ Client, res splice.Result) { r.ended <- res },
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		if forward == "" {
			r.done <- s.Serve(ctx, ln)
		} else {
			r.done <- s.ServeForward(ctx, ln, forward)
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := next(t, r.done); err != nil {
			t.Error(err)
		}
		nothingLeft(t)
	})
	return r
}

// nothingLeft fails when a goroutine of a Server runs on. A context's last calls
// may still be returning.
func nothingLeft(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for start := time.Now(); ; runtime.Gosched() {
		stacks := string(buf[:runtime.Stack(buf, true)])
		left := ""
		for _, name := range []string{"inbound.(*Server)", "inbound.(*caller)", "go-socks5", "splice.Join"} {
			if strings.Contains(stacks, name) {
				left = name
			}
		}
		switch {
		case left == "":
			return
		case time.Since(start) > patience:
			t.Fatalf("%s still runs after Serve has returned:\n%s", left, stacks)
		}
	}
}

func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	defer ln.Close()
	a = tcpDial(t, ln.Addr().String())
	c, err := ln.Accept()
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	b = c.(*net.TCPConn)
	t.Cleanup(func() { b.Close() })
	return a, b
}

func tcpDial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// way is one protocol as a client speaks it.
type way struct {
	name     string
	hello    string // all that the client says
	answer   string // what it hears when the target is reached
	address  string // what is dialled
	protocol Protocol
}

const connected = "HTTP/1.1 200 Connection established\r\n\r\n"

var ways = []way{
	{"socks5 name", "\x05\x01\x00" + "\x05\x01\x00\x03\x0bdb.internal\x00\x16", "\x05\x00" + "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "db.internal:22", SOCKS5},
	{"socks5 ipv4, several methods", "\x05\x03\x02\x01\x00" + "\x05\x01\x00\x01\x0a\x00\x00\x07\x1f\x90", "\x05\x00" + "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "10.0.0.7:8080", SOCKS5},
	{"socks5 ipv6", "\x05\x01\x00" + "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x16", "\x05\x00" + "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "[2001:db8::1]:22", SOCKS5},
	{"socks4", "\x04\x01\x00\x16\x0a\x00\x00\x07somebody\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00", "10.0.0.7:22", SOCKS4},
	{"socks4 no user", "\x04\x01\x00\x16\x0a\x00\x00\x07\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00", "10.0.0.7:22", SOCKS4},
	{"socks4a", "\x04\x01\x00\x16\x00\x00\x00\x01me\x00db.internal\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00", "db.internal:22", SOCKS4},
	{"connect", "CONNECT db.internal:22 HTTP/1.1\r\nHost: db.internal:22\r\nProxy-Authorization: Basic eDp5\r\n\r\n", connected, "db.internal:22", CONNECT},
	{"connect 1.0, bare newlines", "CONNECT db.internal:022 HTTP/1.0\n\n", connected, "db.internal:22", CONNECT},
	{"connect ipv6", "CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: x\r\n\r\n", connected, "[2001:db8::1]:22", CONNECT},
}

// join goes w's way to a target.
func (r *rig) join(w way) (client *net.TCPConn, target dialled) {
	r.t.Helper()
	client = tcpDial(r.t, r.address)
	io.WriteString(client, w.hello)
	target = next(r.t, r.targets)
	target.SetDeadline(time.Now().Add(patience))
	if target.address != w.address {
		r.t.Errorf("dialled %s, want %s", target.address, w.address)
	}
	expect(r.t, client, w.answer)
	return client, target
}

// expect reads exactly want.
func expect(t *testing.T, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got[:n], err, want)
	}
}

// forAllWays runs f for every protocol and for a forward.
func forAllWays(t *testing.T, s func() *Server, f func(t *testing.T, r *rig, w way)) {
	t.Helper()
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { f(t, newRig(t, s(), ""), w) })
	}
	t.Run("forward", func(t *testing.T) {
		f(t, newRig(t, s(), "db.internal:22"), way{name: "forward", address: "db.internal:22", protocol: Forward})
	})
}

func plainServer() *Server { return &Server{} }

func TestEitherSideMayEndFirstAndTheOtherGoesOn(t *testing.T) {
	forAllWays(t, plainServer, func(t *testing.T, r *rig, w way) {
		client, target := r.join(w)
		io.WriteString(client, "ping")
		client.CloseWrite()
		if got, err := io.ReadAll(target); string(got) != "ping" || err != nil {
			t.Errorf("target got %q, %v", got, err)
		}
		io.WriteString(target, "pong")
		target.CloseWrite()
		if got, err := io.ReadAll(client); string(got) != "pong" || err != nil {
			t.Errorf("client got %q, %v", got, err)
		}
		if got := next(t, r.ended); got != (splice.Result{AToB: 4, BToA: 4}) {
			t.Errorf("%+v", got)
		}

		client, target = r.join(w)
		target.CloseWrite()
		if got, err := io.ReadAll(client); len(got) != 0 || err != nil {
			t.Errorf("client got %q, %v", got, err)
		}
		io.WriteString(client, "still here")
		client.CloseWrite()
		if got, err := io.ReadAll(target); string(got) != "still here" || err != nil {
			t.Errorf("target got %q, %v", got, err)
		}
	})
}

func TestAResetIsAResetAtTheOtherSide(t *testing.T) {
	forAllWays(t, plainServer, func(t *testing.T, r *rig, w way) {
		client, target := r.join(w)
		client.SetLinger(0)
		client.Close()
		if _, err := io.ReadAll(target); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the target saw %v", err)
		}
		client, target = r.join(w)
		target.SetLinger(0)
		target.Close()
		if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v", err)
		}
	})
}

func TestWhatIsSaidAtOnceIsNotLost(t *testing.T) {
	data := strings.Repeat("SSH-2.0-test\r\n", 20_000) // more than is read ahead
	forAllWays(t, plainServer, func(t *testing.T, r *rig, w way) {
		client := tcpDial(t, r.address)
		go func() {
			io.WriteString(client, w.hello+data)
			client.CloseWrite()
		}()
		target := next(t, r.targets)
		got, err := io.ReadAll(target)
		if string(got) != data || err != nil {
			t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		}
		target.Close()
		if got, err := io.ReadAll(client); string(got) != w.answer || err != nil {
			t.Errorf("client got %q, %v", got, err)
		}
	})
}

func TestTheEndOfServeIsAResetForAll(t *testing.T) {
	forAllWays(t, plainServer, func(t *testing.T, r *rig, w way) {
		client, target := r.join(w)
		silent := tcpDial(t, r.address)
		// The silent one has been accepted once a later one has been joined.
		r.join(w)
		r.cancel()
		if err := next(t, r.done); err != nil {
			t.Error(err)
		}
		r.done <- nil // for the cleanup
		for _, c := range []io.Reader{client, target} {
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("saw %v", err)
			}
		}
		if got, _ := io.ReadAll(silent); len(got) != 0 {
			t.Errorf("the silent one got %q", got)
		}
		if c, err := net.Dial("tcp", r.address); err == nil {
			c.Close()
			t.Error("the listener is still open")
		}
	})
}

func TestMoreClientsThanRoomAreClosed(t *testing.T) {
	r := newRig(t, &Server{MaxConns: 2}, "")
	first, _ := r.join(ways[0])
	r.join(ways[3])
	late := tcpDial(t, r.address)
	if err := next(t, r.refused); !strings.Contains(err.Error(), "2 clients") {
		t.Error(err)
	}
	if got, _ := io.ReadAll(late); len(got) != 0 {
		t.Errorf("%q", got)
	}
	first.SetLinger(0)
	first.Close()
	next(t, r.ended)
	// The place is given back just after Ended.
	for {
		c := tcpDial(t, r.address)
		io.WriteString(c, ways[0].hello)
		got := make([]byte, len(ways[0].answer))
		if _, err := io.ReadFull(c, got); err == nil {
			return
		}
	}
}

func TestATargetThatCannotHalfCloseIsRefused(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	r := newRig(t, &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return a, nil }}, "")
	c := tcpDial(t, r.address)
	io.WriteString(c, ways[0].hello)
	if got, err := io.ReadAll(c); !bytes.HasPrefix(got, []byte("\x05\x00\x05\x01")) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	next(t, r.refused)
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the target is left open: %v", err)
	}
}

func TestServeNeedsATargetAndADial(t *testing.T) {
	for _, target := range []string{"", "db", "db:0", "db:ssh", ":22", "a b:22", "db:65536"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		err = (&Server{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }}).ServeForward(t.Context(), ln, target)
		if err == nil {
			t.Errorf("%q was taken", target)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%q: the listener is left open", target)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Server{}).Serve(t.Context(), ln); err == nil {
		t.Error("served without a dial")
	}
}

func TestAListenerThatIsClosedEndsServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }}
	done := make(chan error)
	go func() { done <- s.Serve(t.Context(), ln) }()
	silent := tcpDial(t, ln.Addr().String())
	ln.Close()
	if err := next(t, done); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	io.ReadAll(silent)
	nothingLeft(t)
}
