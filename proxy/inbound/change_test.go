package inbound

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// toEcho dials nothing: what is said comes back behind the target's name.
func toEcho(t *testing.T) Dial {
	t.Helper()
	return func(_ context.Context, _, address string) (net.Conn, error) {
		near, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer near.Close()
		go func() {
			c, err := near.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, address+"\n")
			io.Copy(c, c)
		}()
		return net.Dial("tcp", near.Addr().String())
	}
}

func says(t *testing.T, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// A listener may lead elsewhere, or go, and its clients stay.
func TestClientsOutliveTheirListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dial: toEcho(t), AllowOtherUsers: true}
	served := make(chan error, 1)
	go func() { served <- s.ServeForward(t.Context(), ln, "one:22") }()
	connect := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := connect()
	defer first.Close()
	says(t, first, "one:22\n")
	if err := s.Redirect(ln, "no port"); err == nil {
		t.Error("a target without a port is taken")
	}
	if err := s.Redirect(ln, "two:22"); err != nil {
		t.Fatal(err)
	}
	second := connect()
	defer second.Close()
	says(t, second, "two:22\n")

	s.Retire(ln)
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("a retired listener accepts")
	}
	for _, c := range []net.Conn{first, second} {
		io.WriteString(c, "still here")
		says(t, c, "still here")
	}
	select {
	case err := <-served:
		t.Fatalf("Serve returned %v while clients are there", err)
	default:
	}
	first.Close()
	second.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

// The end of the server is the end of those who came by a retired listener, too.
func TestARetiredListenersClientsEndWithTheServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &Server{Dial: toEcho(t), AllowOtherUsers: true}
	served := make(chan error, 1)
	go func() { served <- s.ServeForward(ctx, ln, "one:22") }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	says(t, c, "one:22\n")
	s.Retire(ln)
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestAPasswordCountsForTheNextClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &Server{Dial: toEcho(t), AllowOtherUsers: true}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	connect := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "CONNECT a:1 HTTP/1.1\r\n\r\n")
		return c
	}
	first := connect()
	defer first.Close()
	says(t, first, "HTTP/1.1 200 ")
	s.SetAccess(Access{AllowOtherUsers: true, Login: &Login{User: "me", Password: "secret"}})
	second := connect()
	defer second.Close()
	says(t, second, "HTTP/1.1 407 ")
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}
