package splice

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// joined is Join with a peer at each side.
type joined struct {
	a, b   *simnet.Conn // the peers
	result Result
	wg     sync.WaitGroup
	stop   context.CancelCauseFunc
}

func joinPeers() *joined {
	j := &joined{}
	var na, nb *simnet.Conn
	j.a, na = simnet.Pipe(simnet.Line{})
	j.b, nb = simnet.Pipe(simnet.Line{})
	var ctx context.Context
	ctx, j.stop = context.WithCancelCause(context.Background())
	j.wg.Go(func() { j.result = Join(ctx, &abortable{Conn: na}, &abortable{Conn: nb}) })
	return j
}

// abortable resets as a TCP connection does.
type abortable struct{ *simnet.Conn }

func (a *abortable) Abort(error) {
	a.Cut()
	a.Close()
}

func (j *joined) end() Result {
	j.wg.Wait()
	j.a.Close()
	j.b.Close()
	return j.result
}

func TestBothDirectionsEndOnTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := joinPeers()
		j.a.Write([]byte("ping"))
		j.a.CloseWrite()
		if got, err := io.ReadAll(j.b); string(got) != "ping" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		time.Sleep(24 * time.Hour) // one side silent for hours
		j.b.Write([]byte("pong!"))
		j.b.CloseWrite()
		if got, err := io.ReadAll(j.a); string(got) != "pong!" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if r := j.end(); r != (Result{AToB: 4, BToA: 5}) {
			t.Errorf("%+v", r)
		}
	})
}

func TestAResetIsNeverACleanEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := joinPeers()
		j.a.Write([]byte("half of"))
		synctest.Wait()
		j.a.Cut()
		_, err := io.ReadAll(j.b)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("b saw %v", err)
		}
		var side *Error
		if r := j.end(); !errors.As(r.Err, &side) || side.Side != A || side.Op != "read" {
			t.Errorf("%+v", r)
		}
	})
}

// TestAResetIsNeverACleanEndWhileWritten: the kernel tells it once, and here the writer
// may be who is told.
func TestAResetIsNeverACleanEndWhileWritten(t *testing.T) {
	for range 100 {
		near, far := tcpPair(t)
		b, nb := simnet.Pipe(simnet.Line{})
		joined := make(chan Result)
		go func() { joined <- Join(t.Context(), near, &abortable{Conn: nb}) }()
		go func() { // until it breaks, so that a write is under way then
			for {
				if _, err := b.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}()
		if _, err := io.ReadFull(far, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		far.SetLinger(0)
		far.Close()
		if _, err := io.ReadAll(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("b saw %v", err)
		}
		if r := <-joined; r.Err == nil {
			t.Error("a clean end")
		}
		b.Close()
	}
}

// TestAResetAfterTheEndIsAnEnd: the peer has said all and closed, and is written to before
// what it has said was read. All of that is delivered, with its end.
func TestAResetAfterTheEndIsAnEnd(t *testing.T) {
	const size = 100_000
	near, far := tcpPair(t)
	b, nb := simnet.Pipe(simnet.Line{})
	if _, err := far.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if _, err := near.Write([]byte("typed")); err != nil { // is answered with a reset
		t.Fatal(err)
	}
	joined := make(chan Result)
	go func() { joined <- Join(t.Context(), near, &abortable{Conn: nb}) }()
	if got, err := io.ReadAll(b); len(got) != size || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.Close()
	<-joined
}

func TestLastWordsBeforeAResetAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := joinPeers()
		// b closes with unread data: what a writes next fails, and what b said
		// before is on its way.
		j.b.Write([]byte("permission denied"))
		synctest.Wait()
		j.b.Close()
		got := make([]byte, 17)
		if _, err := io.ReadFull(j.a, got); err != nil || string(got) != "permission denied" {
			t.Errorf("%q, %v", got, err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if _, err := j.a.Write([]byte("more")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
		start := time.Now()
		r := j.end()
		wg.Wait()
		if r.Err == nil || time.Since(start) > time.Second {
			t.Errorf("%+v after %v", r, time.Since(start))
		}
	})
}

func TestContextAbortsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := joinPeers()
		cause := errors.New("enough")
		j.stop(cause)
		if r := j.end(); !errors.Is(r.Err, cause) {
			t.Errorf("%+v", r)
		}
	})
}

func TestARealTCPConnectionIsReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer ln.Close()
	pair := func() (near, far *net.TCPConn) {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, _ := ln.Accept()
			accepted <- c
		}()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.TCPConn), (<-accepted).(*net.TCPConn)
	}
	a, peerA := pair()
	b, peerB := pair()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { Join(ctx, a, b) })
	data := bytes.Repeat([]byte("x"), 1<<20)
	wg.Go(func() { peerA.Write(data) })
	if _, err := io.ReadFull(peerB, make([]byte, len(data))); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	for _, c := range []*net.TCPConn{peerA, peerB} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
		c.Close()
	}
}

// TestAPersonReadsNamesNotSides: neither a letter nor an address twice.
func TestAPersonReadsNamesNotSides(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 22}, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for want, err := range map[string]error{
		"":                     nil,
		"the relay shuts down": errors.New("the relay shuts down"),
		"read from target: read: connection reset by peer": &Error{Side: B, Op: "read", Err: reset},
		"write to client: broken pipe":                     &Error{Side: A, Op: "write", Err: syscall.EPIPE},
	} {
		if got := (Result{Err: err}).Why("client", "target"); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
