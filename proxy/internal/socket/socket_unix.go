//go:build unix

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Reader reads from a socket, without an allocation for each read. One goroutine at a
// time uses it.
type Reader struct {
	raw     syscall.RawConn
	attempt func(fd uintptr) bool // try, once and for all
	buf     *[]byte
	n       int
	failure error
}

// NewReader returns nil for a c that is no socket, or where the system cannot read without
// waiting.
func NewReader(c any) *Reader {
	s := raw(c)
	if s == nil {
		return nil
	}
	r := &Reader{raw: s}
	r.attempt = r.try
	return r
}

// try reads, and takes a buffer for it; it is false, and there is none, if there is
// nothing to read yet.
func (r *Reader) try(fd uintptr) bool {
	r.buf = Take()
	for {
		r.n, r.failure = syscall.Read(int(fd), *r.buf)
		if !errors.Is(r.failure, syscall.EINTR) {
			break
		}
	}
	if errors.Is(r.failure, syscall.EAGAIN) {
		Free(r.buf)
		r.buf = nil
		return false
	}
	return true
}

// Read waits until there is something. The buffer, which may be nil, is the caller's to
// Free, with an error, too. At the end the error is io.EOF.
func (r *Reader) Read() (buf *[]byte, n int, err error) {
	err = r.raw.Read(r.attempt)
	buf, r.buf = r.buf, nil
	switch {
	case err != nil: // closed, or its deadline has passed
		return buf, 0, err
	case r.failure != nil:
		return buf, 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", r.failure)}
	case r.n <= 0:
		return buf, 0, io.EOF
	}
	return buf, r.n, nil
}
