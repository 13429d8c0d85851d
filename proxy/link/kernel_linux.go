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

// kernelOnLine reads from TCP_INFO how many bytes have been written and not reached the
// other end's kernel, as far as this one knows, and whether some that have wait there for a
// packet that was lost (RFC 2018, RFC 6675).
func kernelOnLine(c net.Conn) (n int, hole, ok bool) {
	onSocket(c, func(fd int) {
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		packets := int(i.Unacked) - int(i.Sacked) - int(i.Lost) + int(i.Retrans)
		n, hole, ok = packets*int(i.Snd_mss)+int(i.Notsent_bytes), i.Sacked > 0, true
	})
	return n, hole, ok
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
