package socket

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

func pair(t *testing.T, network, address string) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

func reset(t *testing.T, c net.Conn) {
	t.Helper()
	tcp, ok := c.(*net.TCPConn)
	if !ok || tcp.SetLinger(0) != nil || tcp.Close() != nil {
		t.Fatal("cannot be reset")
	}
}

// TestAResetIsToldOnce: whoever reads after a writer was told of it reads an end of
// stream, which is none.
func TestAResetIsToldOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what this system does is not known well enough")
	}
	near, far := pair(t, "tcp", "127.0.0.1:0")
	reset(t, far)
	var err error
	for err == nil {
		_, err = near.Write(make([]byte, 64))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	b, n, err := NewReader(near).Read()
	Free(b)
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("the reader was told %v", err)
	}
	if !ToldOfReset(near) {
		t.Error("taken for an end of stream")
	}
}

// TestAResetAfterTheEndIsAnEnd: the peer has said all and gone, and something was written
// to it after that.
func TestAResetAfterTheEndIsAnEnd(t *testing.T) {
	near, far := pair(t, "tcp", "127.0.0.1:0")
	far.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // it is there
		t.Fatal(err)
	}
	if _, err := near.Write([]byte("late")); err != nil { // is answered with a reset
		t.Fatal(err)
	}
	if ToldOfReset(near) {
		t.Error("taken for a reset that somebody was told of")
	}
}

func TestWhatIsStillThere(t *testing.T) {
	for name, end := range map[string]func(near, far net.Conn){
		"open":          func(_, _ net.Conn) {},
		"the peer ends": func(_, far net.Conn) { far.(interface{ CloseWrite() error }).CloseWrite() },
		"the peer goes": func(_, far net.Conn) { far.Close() },
	} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(network+" "+name, func(t *testing.T) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = filepath.Join(t.TempDir(), "s")
				}
				near, far := pair(t, network, address)
				end(near, far)
				if name != "open" {
					if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Fatal(err)
					}
				}
				if ToldOfReset(near) {
					t.Error("taken for a reset")
				}
			})
		}
	}
	a, _ := net.Pipe()
	if ToldOfReset(a) || NewReader(a) != nil {
		t.Error("a pipe is no socket")
	}
}
