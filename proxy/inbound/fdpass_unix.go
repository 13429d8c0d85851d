//go:build unix

package inbound

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// PassFD hands c to the program at the other end of out, a unix socket, as ssh
// with ProxyUseFdpass wants it: one byte, with the descriptor beside it
// (ssh_config(5), unix(7) SCM_RIGHTS). c can be closed afterwards.
func PassFD(out *os.File, c *net.UnixConn) error {
	f, err := c.File() // a duplicate, in blocking mode as ssh expects
	if err != nil {
		return fmt.Errorf("pass the connection: %w", err)
	}
	defer f.Close()
	for {
		err = unix.Sendmsg(int(out.Fd()), []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("pass the connection on stdout, is \"ProxyUseFdpass yes\" set in ssh_config? %w", err)
	}
	return nil
}
