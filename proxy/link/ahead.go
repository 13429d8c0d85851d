package link

import (
	"net"
	"sync"
	"syscall"
)

// aheadSize is how much is read from a socket at once, in bytes.
const aheadSize = 64 << 10

var aheads = sync.Pool{New: func() any { b := make([]byte, aheadSize); return &b }}

// ahead reads more from a socket than is asked for: TLS asks for a record's header and
// for its body, and each would be a system call. There is no buffer while nothing has
// arrived.
type ahead struct {
	raw *rawReader // nil: every read is the connection's own

	mu   sync.Mutex // guards all below, and the order of reads
	buf  *[]byte    // pooled; nil unless some of it is left
	rest []byte     // of buf
}

// init makes a read from a socket ahead.
func (a *ahead) init(c net.Conn) {
	socket, ok := c.(syscall.Conn)
	if !ok || !readsRaw {
		return
	}
	if raw, err := socket.SyscallConn(); err == nil {
		a.raw = newRawReader(raw)
	}
}

// take returns what was read ahead. The caller holds mu.
func (a *ahead) take(p []byte) int {
	if len(a.rest) == 0 {
		return 0
	}
	n := copy(p, a.rest)
	if a.rest = a.rest[n:]; len(a.rest) == 0 {
		aheads.Put(a.buf)
		a.buf = nil
	}
	return n
}

// read returns what was read ahead, or waits for something to arrive: how much of it is
// in p, and how much has arrived.
func (a *ahead) read(c net.Conn, p []byte) (n, arrived int, err error) {
	if a.raw == nil || len(p) == 0 {
		n, err = c.Read(p)
		return n, n, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.take(p); n > 0 {
		return n, 0, nil
	}
	buf, arrived, err := a.raw.read()
	if arrived == 0 {
		if buf != nil {
			aheads.Put(buf)
		}
		return 0, 0, err
	}
	a.buf, a.rest = buf, (*buf)[:arrived]
	return a.take(p), arrived, err
}
