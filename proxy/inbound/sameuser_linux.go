package inbound

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// sameUser reports whether the other end belongs to this user, or to root.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return err == nil && credErr == nil && (cred.Uid == uint32(os.Geteuid()) || cred.Uid == 0)
}
