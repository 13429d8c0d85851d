package link

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds what the kernel takes beyond what it can send now, in bytes
// (TCP_NOTSENT_LOWAT, tcp(7)), best effort: what waits there cannot be overtaken.
func limitUnsent(c net.Conn, n int) {
	onSocket(c, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n) })
}
