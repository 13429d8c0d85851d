package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelRetransmits reads TCP_INFO (tcp(7)).
func kernelRetransmits(c net.Conn) (n int, unacknowledged bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n, unacknowledged = int(info.Retransmits), info.Unacked > 0
		}
	})
	return n, unacknowledged
}
