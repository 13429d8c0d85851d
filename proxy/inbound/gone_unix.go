//go:build unix

package inbound

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// readerGone reports whether nobody can read what is written to f any more. For a
// pipe poll(2) says POLLERR, for a socket POLLHUP. It does not wait: whoever waits
// in it keeps f from being closed.
func readerGone(f *os.File) (gone bool, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var pollErr error
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, pollErr = unix.Poll(fds, 0)
		gone = fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	if errors.Is(pollErr, unix.EINTR) {
		pollErr = nil
	}
	return gone, errors.Join(err, pollErr)
}
