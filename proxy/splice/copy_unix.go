//go:build unix

package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// readerOf returns a function that waits for c to have something to read and takes
// a buffer only then. What it cannot do is left to otherwise.
func readerOf(c syscall.RawConn, _ func() (*[]byte, int, error)) func() (*[]byte, int, error) {
	return func() (b *[]byte, n int, err error) {
		var failure error
		err = c.Read(func(fd uintptr) bool {
			b, _ = buffers.Get().(*[]byte)
			for {
				n, failure = syscall.Read(int(fd), *b)
				if !errors.Is(failure, syscall.EINTR) {
					break
				}
			}
			if errors.Is(failure, syscall.EAGAIN) {
				buffers.Put(b)
				b = nil
				return false
			}
			return true
		})
		switch {
		case err != nil: // closed, or its deadline has passed
			return b, 0, err
		case failure != nil:
			return b, 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", failure)}
		case n <= 0:
			return b, 0, io.EOF
		}
		return b, n, nil
	}
}
