package status

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// pipes is a listener that hands out the far ends of what dial returns.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn, 1000), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return loopback }

func (p *pipes) dial() net.Conn {
	near, far := simnet.Pipe(simnet.Line{})
	p.conns <- far
	return near
}

// get asks for path on c and returns the status code; 0 when there is no answer.
func get(c net.Conn, path string) int {
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	io.Copy(io.Discard, r.Body)
	return r.StatusCode
}

// TestServeLeavesNothingBehind: a goroutine that stays fails the bubble.
func TestServeLeavesNothingBehind(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		hung := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, p, NewHandler(p.Addr(), Config{Metrics: hung}), nil) }()

		idle, silent, waiting := p.dial(), p.dial(), p.dial()
		if code := get(idle, "/healthz"); code != 200 {
			t.Errorf("code %d", code)
		}
		go get(waiting, "/metrics")
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the end took %v", d)
		}
		for _, c := range []net.Conn{idle, silent, waiting} {
			c.Close()
		}
	})
}

func TestServeTellsWhyItsListenerFailed(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := newPipes()
		p.Close()
		if err := Serve(t.Context(), p, text(""), nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

// TestSilentClientsAreBounded: with every slot taken by someone who says nothing,
// a scraper waits for the header's time and not longer.
func TestSilentClientsAreBounded(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, p, NewHandler(p.Addr(), Config{}), nil) }()
		var all []net.Conn
		for range maxConns {
			all = append(all, p.dial())
		}
		synctest.Wait()
		c := p.dial()
		start := time.Now()
		if code := get(c, "/healthz"); code != 200 {
			t.Errorf("code %d", code)
		}
		if d := time.Since(start); d != headerTime {
			t.Errorf("answered after %v", d)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, c := range append(all, c) {
			c.Close()
		}
	})
}

func TestAnEndWhileEverySlotIsTaken(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, p, text(""), nil) }()
		var all []net.Conn
		for range maxConns + 1 {
			all = append(all, p.dial())
		}
		synctest.Wait()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, c := range append(all, <-p.conns) {
			c.Close()
		}
	})
}

func TestOnlyAConfiguredAddressMustBeHad(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))

	ln, err := Listen(t.Context(), address, false, log)
	if ln != nil || err != nil || strings.Count(out.String(), "level=WARN") != 1 || !strings.Contains(out.String(), address) {
		t.Errorf("default: %v, %v, log %q", ln, err, out.String())
	}
	if ln, err = Listen(t.Context(), address, false, nil); ln != nil || err != nil {
		t.Errorf("without a log: %v, %v", ln, err)
	}
	ln, err = Listen(t.Context(), address, true, log)
	if ln != nil || err == nil || strings.Count(err.Error(), address) != 1 {
		t.Errorf("configured: %v, %v", ln, err)
	}
	if ln, err = Listen(t.Context(), "", true, log); ln != nil || err != nil {
		t.Errorf("off: %v, %v", ln, err)
	}
	if ln, err = Listen(t.Context(), "127.0.0.1:0", true, log); err != nil {
		t.Fatal(err)
	}
	ln.Close()
}
