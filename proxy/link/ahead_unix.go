//go:build unix

package link

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

const readsRaw = true

// rawReader reads from a socket, without an allocation for each read.
type rawReader struct {
	socket  syscall.RawConn
	attempt func(fd uintptr) bool // try, once and for all
	buf     *[]byte
	n       int
	failure error
}

func newRawReader(socket syscall.RawConn) *rawReader {
	r := &rawReader{socket: socket}
	r.attempt = r.try
	return r
}

// try reads, and takes a buffer for it; it is false, and there is none, if there is
// nothing to read yet.
func (r *rawReader) try(fd uintptr) bool {
	r.buf, _ = aheads.Get().(*[]byte)
	for {
		r.n, r.failure = syscall.Read(int(fd), *r.buf)
		if !errors.Is(r.failure, syscall.EINTR) {
			break
		}
	}
	if errors.Is(r.failure, syscall.EAGAIN) {
		aheads.Put(r.buf)
		r.buf = nil
		return false
	}
	return true
}

// read waits until there is something. The buffer is the caller's.
func (r *rawReader) read() (buf *[]byte, n int, err error) {
	err = r.socket.Read(r.attempt)
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
