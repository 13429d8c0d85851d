package transport

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// wantedCongestion is the congestion control that a link asks for: it takes a lost
// packet for an accident and not for a full line (Cardwell et al., ACM Queue 14-5,
// 2016). A kernel
// that does not have it, or allows it to root only, leaves its default.
const wantedCongestion = "bbr"

// tune sets the socket options of a link's connection, best effort, and returns the
// name of its congestion control: empty where it is not known.
func tune(c net.Conn, userTimeout time.Duration) (congestion string) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return ""
	}
	_ = tcp.SetKeepAlive(false) // the link beats
	raw, err := tcp.SyscallConn()
	if err != nil {
		return ""
	}
	_ = raw.Control(func(fd uintptr) {
		if userTimeout > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		}
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, wantedCongestion)
		congestion, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return congestion
}
