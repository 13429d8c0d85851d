package link

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// ahead reads more from a socket than is asked for: TLS asks for a record's header and
// for its body, and each would be a system call. There is no buffer while nothing has
// arrived.
type ahead struct {
	socket *socket.Reader // nil: every read is the connection's own

	mu   sync.Mutex // guards all below, and the order of reads
	buf  *[]byte    // of package socket; nil unless some of it is left
	rest []byte     // of buf
}

// take returns what was read ahead. The caller holds mu.
func (a *ahead) take(p []byte) int {
	if len(a.rest) == 0 {
		return 0
	}
	n := copy(p, a.rest)
	if a.rest = a.rest[n:]; len(a.rest) == 0 {
		socket.Free(a.buf)
		a.buf = nil
	}
	return n
}

// read returns what was read ahead, or waits for something to arrive: how much of it is
// in p, and how much has arrived.
func (a *ahead) read(c net.Conn, p []byte) (n, arrived int, err error) {
	if a.socket == nil || len(p) == 0 {
		n, err = c.Read(p)
		return n, n, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.take(p); n > 0 {
		return n, 0, nil
	}
	buf, arrived, err := a.socket.Read()
	if arrived == 0 {
		socket.Free(buf)
		if errors.Is(err, io.EOF) && socket.ToldOfReset(c) { // a write was
			err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
		}
		return 0, 0, err
	}
	a.buf, a.rest = buf, (*buf)[:arrived]
	return a.take(p), arrived, err
}
