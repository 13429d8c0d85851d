//go:build !linux

package transport

import (
	"net"
	"time"
)

// tune sets the socket options of a link's connection, best effort. Its congestion
// control is the system's, and not known.
func tune(c net.Conn, _ time.Duration) (congestion string) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(false) // the link beats
	}
	return ""
}
