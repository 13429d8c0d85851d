//go:build !linux

package inbound

import "net"

// sameUser trusts the modes of the socket and its directory: this system tells
// no more in a portable way.
func sameUser(*net.UnixConn) bool { return true }
