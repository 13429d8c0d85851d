package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// tcpPair is two ends of a connection over loopback.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		d.Close()
	})
	return c.(*net.TCPConn), d.(*net.TCPConn) //nolint:forcetypeassert // of TCP
}

// told is a writer that says when it was written to.
type told struct {
	io.Writer
	c chan struct{}
}

func (w told) Write(p []byte) (int, error) {
	defer func() { w.c <- struct{}{} }()
	return w.Writer.Write(p)
}

// TestAnIdleCopyHoldsNoBuffer: after it has copied something, too.
func TestAnIdleCopyHoldsNoBuffer(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a socket cannot be asked without a buffer here")
	}
	const copies = 200
	var wg sync.WaitGroup
	var ends []*net.TCPConn
	written := make(chan struct{})
	before := heap()
	for range copies {
		near, far := tcpPair(t)
		ends = append(ends, far)
		wg.Go(func() { Copy(told{io.Discard, written}, near) })
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		<-written
	}
	if held := heap() - before; held > copies*socket.Size/4 {
		t.Errorf("%d idle copies hold %d KiB", copies, held>>10)
	}
	for _, c := range ends {
		c.Close()
	}
	wg.Wait()
}

func heap() int {
	runtime.GC()
	runtime.GC() // pools give back in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestCopyEndsAsReadDoes(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(near, far *net.TCPConn)
		want error // nil: a clean end
	}{
		"the end":    {func(_, far *net.TCPConn) { far.CloseWrite() }, nil},
		"a close":    {func(near, _ *net.TCPConn) { near.Close() }, net.ErrClosed},
		"a deadline": {func(near, _ *net.TCPConn) { near.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"a reset": {func(_, far *net.TCPConn) {
			far.SetLinger(0)
			far.Close()
		}, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := tcpPair(t)
			written := make(chan struct{}, 1)
			ended := make(chan error)
			var n int64
			go func() {
				var err error
				n, err = Copy(told{io.Discard, written}, near)
				ended <- err
			}()
			far.Write([]byte("before"))
			<-written
			tt.end(near, far)
			err := <-ended
			if n != 6 || !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}
