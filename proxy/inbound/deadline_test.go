package inbound

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// sim is one client of a Server and its target, in virtual time.
type sim struct {
	client  *simnet.Conn
	target  *simnet.Conn // the target's end, once it was dialled
	refused error
	wg      sync.WaitGroup
	stop    context.CancelFunc
}

// serveSim lets dial, which may be nil, pass before the target is reached.
func serveSim(s *Server, forward string, dial func(ctx context.Context) error) *sim {
	v := &sim{}
	var ours, conn *simnet.Conn
	given := false
	v.client, conn = simnet.Pipe(simnet.Line{})
	v.target, ours = simnet.Pipe(simnet.Line{})
	s.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if dial != nil {
			if err := dial(ctx); err != nil {
				return nil, err
			}
		}
		given = true
		return ours, nil
	}
	s.Trace = &Trace{Refused: func(_ Client, err error) { v.refused = err }}
	var ctx context.Context
	ctx, v.stop = context.WithCancel(context.Background())
	v.wg.Go(func() {
		if serve := s.serveConn(ctx, conn, forward); serve != nil {
			serve()
		}
		if !given {
			ours.Close()
		}
	})
	return v
}

func (v *sim) end() {
	v.client.Close()
	v.target.Close()
	v.wg.Wait()
	v.stop()
}

func forAllWaysInVirtualTime(t *testing.T, f func(t *testing.T, w way, forward string)) {
	t.Helper()
	all := append([]way{{name: "forward"}}, ways...)
	for _, w := range all {
		forward := ""
		if w.name == "forward" {
			forward = "db.internal:22"
		}
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, w, forward) })
		})
	}
}

func TestATrickleDoesNotExtendTheHandshake(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := serveSim(&Server{}, "", nil)
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := range w.hello {
						if _, err := io.WriteString(v.client, w.hello[i:i+1]); err != nil {
							return
						}
						time.Sleep(DefaultHandshakeTimeout/time.Duration(len(w.hello)-1) + time.Microsecond) // too slow by a little
					}
				})
				io.ReadAll(v.client)
				if took := time.Since(start); took != DefaultHandshakeTimeout {
					t.Errorf("closed after %v", took)
				}
				wg.Wait()
				v.end()
				if v.refused == nil {
					t.Error("not refused")
				}
			})
		})
	}
}

func TestASilentClientIsClosedAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serveSim(&Server{HandshakeTimeout: 3 * time.Second}, "", nil)
		start := time.Now()
		if got, err := io.ReadAll(v.client); len(got) != 0 || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("closed after %v", took)
		}
		v.end()
	})
}

func TestTheHandshakesDeadlineIsGoneWhenDataFlows(t *testing.T) {
	forAllWaysInVirtualTime(t, func(t *testing.T, w way, forward string) {
		v := serveSim(&Server{}, forward, func(context.Context) error {
			time.Sleep(10 * time.Minute) // a link that comes back
			return nil
		})
		io.WriteString(v.client, w.hello)
		expect(t, v.client, w.answer)
		for range 3 {
			time.Sleep(24 * time.Hour)
			io.WriteString(v.client, "ping")
			expect(t, v.target, "ping")
			time.Sleep(24 * time.Hour)
			io.WriteString(v.target, "pong")
			expect(t, v.client, "pong")
		}
		v.client.CloseWrite()
		time.Sleep(24 * time.Hour)
		io.WriteString(v.target, "the rest")
		v.target.CloseWrite()
		if got, err := io.ReadAll(v.client); string(got) != "the rest" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		v.end()
	})
}

func TestADialIsGivenUpWhenTheClientResets(t *testing.T) {
	forAllWaysInVirtualTime(t, func(t *testing.T, w way, forward string) {
		v := serveSim(&Server{}, forward, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		io.WriteString(v.client, w.hello+"and more")
		time.Sleep(time.Hour)
		v.client.Cut()
		synctest.Wait()
		if !errors.Is(v.refused, syscall.ECONNRESET) {
			t.Errorf("%v", v.refused)
		}
		v.end()
	})
}

// TestAClientThatSaidAllMayWaitALittle: its end of stream may be that of a
// program that has gone, or that has no more to say.
func TestAClientThatSaidAllMayWaitALittle(t *testing.T) {
	forAllWaysInVirtualTime(t, func(t *testing.T, w way, forward string) {
		v := serveSim(&Server{}, forward, func(ctx context.Context) error {
			select {
			case <-time.After(DefaultHandshakeTimeout - time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		io.WriteString(v.client, w.hello+"all")
		v.client.CloseWrite()
		expect(t, v.client, w.answer)
		if got, err := io.ReadAll(v.target); string(got) != "all" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		v.end()

		v = serveSim(&Server{}, forward, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		io.WriteString(v.client, w.hello+"all")
		v.client.CloseWrite()
		v.wg.Wait()
		if took := time.Since(start); took != DefaultHandshakeTimeout || !errors.Is(v.refused, io.EOF) {
			t.Errorf("given up after %v with %v", took, v.refused)
		}
		v.end()
	})
}

// TestAConnectionThatComesTooLateIsClosed: the dial did not look at its ctx.
func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serveSim(&Server{}, "", func(context.Context) error {
			time.Sleep(time.Minute)
			return nil
		})
		io.WriteString(v.client, ways[0].hello)
		time.Sleep(time.Second)
		v.client.Cut()
		if _, err := io.ReadAll(v.target); err != nil {
			t.Error(err)
		}
		v.end()
		if !errors.Is(v.refused, syscall.ECONNRESET) {
			t.Errorf("%v", v.refused)
		}
	})
}

// parting is a client at whose answer the Server is told to end.
type parting struct {
	*script
	cancel context.CancelFunc
	first  chan string // how it ended
}

func (c *parting) Write(p []byte) (int, error) {
	n, err := c.script.Write(p)
	c.cancel()
	how := <-c.first
	c.first <- how
	return n, err
}

func (c *parting) say(how string) {
	select {
	case c.first <- how:
	default: // not the first
	}
}

func (c *parting) Abort(error) { c.say("abort") }

func (c *parting) Close() error {
	c.say("close")
	return c.script.Close()
}

// TestAnEndAfterTheAnswerIsNoCleanEnd: the client has heard that its target is
// reached, and must not take the end of the Server for the target's.
func TestAnEndAfterTheAnswerIsNoCleanEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := &parting{&script{parts: [][]byte{[]byte(ways[3].hello)}}, cancel, make(chan string, 1)}
	s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return &script{}, nil }}
	if serve := s.serveConn(ctx, client, ""); serve != nil {
		serve()
	}
	if how := <-client.first; how != "abort" || client.closed == 0 {
		t.Errorf("the client saw %s, closed %d times", how, client.closed)
	}
}

// failing is a listener whose Accept fails a few times.
type failing struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	fails  int
}

func (l *failing) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, syscall.EMFILE
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *failing) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestAcceptErrorsThatPassAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failing{conns: make(chan net.Conn, 1), closed: make(chan struct{}), fails: 20}
		client, conn := simnet.Pipe(simnet.Line{})
		ln.conns <- conn
		io.WriteString(client, "\x05\x00")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }}
		start := time.Now()
		go func() { done <- s.Serve(ctx, ln) }()
		expect(t, client, "\x05\xff")
		if took := time.Since(start); took != 20*acceptPause {
			t.Errorf("served after %v", took)
		}
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
