package inbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// ownUserOnly refuses a client of another user. It judges connections over loopback,
// where either end is: a client of this machine may bind any of its addresses
// before it connects to 127.0.0.1.
func ownUserOnly(c net.Conn) error {
	if !peersKnown {
		return nil
	}
	client, tcp := c.RemoteAddr().(*net.TCPAddr)
	server, ok := c.LocalAddr().(*net.TCPAddr)
	if !tcp && !ok {
		return nil // no network at all
	}
	if !tcp || !ok {
		return errors.New("the connection has lost its addresses")
	}
	if !client.IP.IsLoopback() && !server.IP.IsLoopback() {
		return nil
	}
	uid, err := peerUID(plainAddr(client), plainAddr(server))
	if err != nil {
		return fmt.Errorf("find out whose the connection is: %w", err)
	}
	if uid != 0 && uid != uint32(os.Geteuid()) {
		return &OtherUserError{UID: uid}
	}
	return nil
}

// plainAddr is a without zone, an IPv4 address as such.
func plainAddr(a *net.TCPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// OtherUserError is why a client of another user of this machine was refused.
type OtherUserError struct{ UID uint32 }

func (e *OtherUserError) Error() string {
	return fmt.Sprintf("the client is of another user, uid %d", e.UID)
}
