package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// sockets returns a TCP connection of this machine, both ends.
func sockets(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestAMeterIsAConn, whatever it reads ahead.
func TestAMeterIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		a, b = sockets(t)
		return NewMeter(a), NewMeter(b), func() { a.Close(); b.Close() }, nil
	})
}

// TestReadingAhead: what arrived at once is asked for in small pieces, and counts when it
// has arrived. No buffer stays.
func TestReadingAhead(t *testing.T) {
	a, b := sockets(t)
	m := NewMeter(b)
	want := random(3*socket.Size + 5)
	go func() {
		a.Write(want)
		a.Close()
	}()
	var got []byte
	for size := 1; ; size = size%700 + 1 {
		p := make([]byte, size)
		n, err := m.Read(p)
		got = append(got, p[:n]...)
		if in, _ := m.Bytes(); in < uint64(len(got)) || in > uint64(len(got)+socket.Size) {
			t.Fatalf("%d bytes arrived, %d were read", in, len(got))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came out of %d", len(got), len(want))
	}
	if m.ahead.buf != nil || len(m.ahead.rest) > 0 {
		t.Error("a buffer is held at the end")
	}
}

// TestAResetThatAWriteWasToldOf is none of the peer's ends.
func TestAResetThatAWriteWasToldOf(t *testing.T) {
	a, b := sockets(t)
	m := NewMeter(b)
	a.(*net.TCPConn).SetLinger(0)
	a.Close()
	var err error
	for err == nil {
		_, err = m.Write(make([]byte, 64))
	}
	if _, err := m.Read(make([]byte, 1)); classify(err) != Reset {
		t.Errorf("the reader is told %v", err)
	}
}

// writes is a connection that remembers what was written, and fails from the nth write on.
type writes struct {
	net.Conn

	all    [][]byte
	failAt int
}

func (w *writes) Write(p []byte) (int, error) {
	if len(w.all)+1 == w.failAt {
		return 0, io.ErrClosedPipe
	}
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

// TestRecordsLeaveAsOneWrite, unless they are more than fits.
func TestRecordsLeaveAsOneWrite(t *testing.T) {
	w := &writes{}
	m := NewMeter(w)
	write := func(n int) {
		t.Helper()
		if got, err := m.Write(bytes.Repeat([]byte{byte(len(w.all))}, n)); got != n || err != nil {
			t.Errorf("wrote %d of %d: %v", got, n, err)
		}
	}
	want := func(what string, sizes ...int) {
		t.Helper()
		var got []int
		for _, p := range w.all {
			got = append(got, len(p))
		}
		if len(got) != len(sizes) {
			t.Fatalf("%s: writes of %v bytes, want %v", what, got, sizes)
		}
		for i := range got {
			if got[i] != sizes[i] {
				t.Fatalf("%s: writes of %v bytes, want %v", what, got, sizes)
			}
		}
		w.all = nil
	}
	write(10)
	want("not held", 10)
	m.hold()
	for range 4 {
		write(maxRecord + 22)
	}
	if len(w.all) != 0 {
		t.Error("written before it was released")
	}
	if err := m.release(); err != nil {
		t.Error(err)
	}
	want("held", 4*(maxRecord+22))
	if _, out := m.Bytes(); out != 10+4*(maxRecord+22) {
		t.Errorf("%d bytes counted", out)
	}
	m.hold()
	for range 5 {
		write(maxRecord)
	}
	if err := m.release(); err != nil {
		t.Error(err)
	}
	want("more than fits", 4*maxRecord, maxRecord)
	m.hold()
	if err := m.release(); err != nil {
		t.Error(err)
	}
	write(1)
	want("nothing held", 1)

	w.failAt = 1
	m.hold()
	write(5)
	if err := m.release(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the write that failed says %v", err)
	}
}
