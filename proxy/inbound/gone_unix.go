//go:build unix

package inbound

import (
	"os"

	"golang.org/x/sys/unix"
)

// readerGone waits until nobody can read what is written to f any more, and
// reports false when that cannot be known. For a pipe poll(2) says POLLERR, for
// a socket POLLHUP.
func readerGone(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		for {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			_, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			gone = err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
			return
		}
	})
	return err == nil && gone
}
