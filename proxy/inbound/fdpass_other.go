//go:build !unix

package inbound

import (
	"errors"
	"net"
	"os"
)

// PassFD fails: this system passes no descriptors.
func PassFD(*os.File, *net.UnixConn) error {
	return errors.New("--fdpass does not work on this system")
}
