package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelRetransmits reads TCP_INFO (tcp(7)).
func kernelRetransmits(c net.Conn) (n int, unacknowledged bool) {
	onSocket(c, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n, unacknowledged = int(info.Retransmits), info.Unacked > 0
		}
	})
	return n, unacknowledged
}

// onSocket calls f with the descriptor of a connection that has one.
func onSocket(c net.Conn, f func(fd int)) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
