package socket

import "golang.org/x/sys/unix"

// ToldOfReset reports whether the TCP connection behind c, neither of whose directions
// this end has closed, is no more, and somebody has been told why. The kernel tells that
// once, to whoever asks first: if that is a writer, a reader reads an end of stream. It may
// have been one nevertheless: a peer that has ended, and answers what it is sent then with
// a reset, which is told as a broken pipe (tcp(7), getpeername(2), SO_ERROR in socket(7)).
func ToldOfReset(c any) bool {
	told := false
	if r := raw(c); r != nil {
		_ = r.Control(func(fd uintptr) {
			local, err := unix.Getsockname(int(fd))
			if err != nil {
				return
			}
			switch local.(type) {
			case *unix.SockaddrInet4, *unix.SockaddrInet6:
			default:
				return
			}
			if _, err = unix.Getpeername(int(fd)); err == nil {
				return
			}
			why, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
			told = err == nil && why == 0
		})
	}
	return told
}
