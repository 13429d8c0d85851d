//go:build !linux

package transport

import (
	"net"
	"time"
)

// tune sets the socket options of a link's connection, best effort.
func tune(c net.Conn, _ time.Duration) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(false) // the link beats
	}
}
