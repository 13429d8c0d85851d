//go:build !linux

package link

import "net"

// limitUnsent can do nothing here.
func limitUnsent(net.Conn, int) {}
