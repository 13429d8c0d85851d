package simnet

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := Pipe(Line{Buffer: 32 << 10})
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestLineHasItsRateAndDelay(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		a, b := Pipe(Line{Rate: 8000, Delay: 50 * time.Millisecond})
		start := time.Now()
		go func() {
			a.Write(make([]byte, 80_000))
			a.CloseWrite()
		}()
		if n, err := io.Copy(io.Discard, b); n != 80_000 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if d := time.Since(start); d < 10*time.Second || d > 10*time.Second+100*time.Millisecond {
			t.Errorf("80 kB at 8 kB/s took %v", d)
		}
		a.Close()
		b.Close()
	})
}

func TestFullBuffersBlockTheWriter(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		a, b := Pipe(Line{Buffer: 10_000})
		a.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := a.Write(make([]byte, 1_000_000))
		if n < 20_000 || n > 20_000+segment || !isTimeout(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
		a.Close()
		b.Close()
	})
}

func TestNATForgetsIdleFlows(t *testing.T) {
	for _, reset := range []bool{false, true} {
		Bubble(t, func(t *testing.T) {
			a, b := Pipe(Line{NAT: NAT{Idle: 30 * time.Second, Reset: reset}})
			buf := make([]byte, 10)
			for range 3 {
				a.Write([]byte("x"))
				b.Read(buf)
				time.Sleep(29 * time.Second)
			}
			time.Sleep(2 * time.Second)
			a.Write([]byte("too late"))
			a.SetReadDeadline(time.Now().Add(time.Hour))
			_, err := a.Read(buf)
			if reset && !errors.Is(err, syscall.ECONNRESET) || !reset && !isTimeout(err) {
				t.Errorf("reset %v: %v", reset, err)
			}
			b.SetReadDeadline(time.Now().Add(time.Hour))
			if n, err := b.Read(buf); n != 0 || !isTimeout(err) {
				t.Errorf("reset %v: the far end read %d bytes, %v", reset, n, err)
			}
			a.Close()
			b.Close()
		})
	}
}

func TestHoleCutAndFreeze(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		a, b := Pipe(Line{})
		buf := make([]byte, 10)
		a.Hole(true)
		a.Write([]byte("late"))
		go func() {
			time.Sleep(time.Minute)
			a.Hole(false)
		}()
		start := time.Now()
		if n, err := b.Read(buf); string(buf[:n]) != "late" || err != nil || time.Since(start) != time.Minute {
			t.Errorf("%q, %v after %v", buf[:n], err, time.Since(start))
		}
		b.Freeze()
		a.Write([]byte("frozen"))
		done := make(chan bool)
		go func() {
			b.Read(buf)
			close(done)
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("a frozen end reads")
		default:
		}
		b.Thaw()
		<-done
		b.Cut()
		if _, err := a.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		a.Close()
		b.Close()
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
