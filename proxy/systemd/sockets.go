package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Socket is a listener that the manager has opened.
type Socket struct {
	// Name is its FileDescriptorName.
	Name string
	net.Listener
}

// Sockets returns the listeners that the manager has opened for this process, none
// where it has not. It is to be called once, and the caller owns them. A descriptor
// that is no listening stream socket is an error.
func Sockets() (sockets []Socket, err error) {
	for _, f := range activation.Files(true) {
		ln, lerr := net.FileListener(f)
		f.Close()
		if lerr != nil {
			err = fmt.Errorf("socket %q from systemd is of no use (want ListenStream=): %w", f.Name(), lerr)
			continue
		}
		sockets = append(sockets, Socket{Name: f.Name(), Listener: ln})
	}
	if err != nil {
		for _, s := range sockets {
			s.Close()
		}
		return nil, err
	}
	return sockets, nil
}
