package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/systemd"
)

// inlet is a listener for links, and how the configuration names it.
type inlet struct {
	net.Listener
	address string // empty: it is systemd's
}

// adminSocket is the FileDescriptorName of a socket for metrics and health.
const adminSocket = "admin"

// open opens what links come in by: what systemd gives, else relay.listen. A
// socket of systemd's for the admin address is returned.
func (s *server) open(ctx context.Context) (admin net.Listener, err error) {
	sockets, err := systemd.Sockets()
	if err != nil {
		return nil, err
	}
	for _, k := range sockets {
		if k.Name == adminSocket && admin == nil {
			admin = k.Listener
			continue
		}
		s.inlets = append(s.inlets, inlet{Listener: k.Listener})
	}
	if s.given = len(s.inlets) > 0; !s.given {
		s.inlets, _, err = s.listen(ctx, s.file)
	} else {
		s.log.Info("systemd gives the sockets, relay.listen is not used", "sockets", len(s.inlets))
	}
	if err != nil && admin != nil {
		admin.Close()
	}
	s.know(s.inlets)
	return admin, err
}

// listen returns the listeners for all of relay.listen, of which those of opened
// are new, or none.
func (s *server) listen(ctx context.Context, file *config.File) (all, opened []inlet, err error) {
	// The link has its own heartbeats; the kernel's would hide the interval.
	lc := net.ListenConfig{KeepAlive: -1}
	left := slices.Clone(s.inlets)
	for i, address := range file.Relay.Listen {
		if j := slices.IndexFunc(left, func(in inlet) bool { return in.address == address }); j >= 0 {
			all = append(all, left[j])
			left = slices.Delete(left, j, j+1)
			continue
		}
		ln, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			closeAll(opened)
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return nil, nil, file.Errorf(fmt.Sprintf("relay.listen[%d]", i), "listen on %s: %w", address, err)
		}
		in := inlet{ln, address}
		all, opened = append(all, in), append(opened, in)
	}
	return all, opened, nil
}

func closeAll(inlets []inlet) {
	for _, in := range inlets {
		in.Close()
	}
}

// know makes these the addresses that links come in by.
func (s *server) know(inlets []inlet) {
	addrs := make([]netip.AddrPort, 0, len(inlets))
	for _, in := range inlets {
		addrs = append(addrs, addrPorts(in.Listener)...)
	}
	s.own.links.Store(&addrs)
}

// addrPorts is a listener's address, or nothing where it has none of that kind.
func addrPorts(ln net.Listener) []netip.AddrPort {
	a, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		return nil
	}
	return []netip.AddrPort{a}
}

func listenersOf(inlets []inlet) []net.Listener {
	all := make([]net.Listener, 0, len(inlets))
	for _, in := range inlets {
		all = append(all, in.Listener)
	}
	return all
}

// announce logs a listener.
func (s *server) announce(in inlet, authorizedKeys string) {
	s.log.Info("listening", "address", in.Addr().String(), "fingerprint", s.key.Fingerprint, "authorized_keys", authorizedKeys)
}

// summary is what systemctl status shows.
func (s *server) summary() string {
	at := make([]string, 0, len(s.inlets))
	for _, in := range s.inlets {
		at = append(at, in.Addr().String())
	}
	return "listening on " + strings.Join(at, ", ")
}

// drainingStatus is summary for a relay that drains.
func drainingStatus(left int) string {
	if left == 1 {
		return "draining, 1 session left"
	}
	return fmt.Sprintf("draining, %d sessions left", left)
}
