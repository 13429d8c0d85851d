package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Server is a relay's end of the handshake.
type Server struct {
	// Key is the relay's own.
	Key *RelayKey
	// Verifier says who may come in.
	Verifier *keyauth.Verifier
	// Hello is what proxies are told; the versions are filled in.
	Hello wire.Hello
	// HandshakeTimeout bounds TLS, HELLO and the first message of AUTH together.
	// Zero means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// UserTimeout is as in Dialer.
	UserTimeout time.Duration
}

// Door is what a relay does while a proxy comes in. Each may be nil.
type Door struct {
	// Picked is called when a signature is awaited: from then on a person may be
	// looking for a key to touch.
	Picked func()
	// Admit is called for a proxy that has proven who it is, and returns either
	// what it is told. Nil welcomes without a ticket.
	Admit func(keyauth.Identity) (*wire.Welcome, *wire.Denied)
}

// Handshake authenticates a proxy. It owns raw and closes it upon an error,
// which is a *keyauth.VerifyError when the proxy was not let in.
func (s *Server) Handshake(ctx context.Context, raw net.Conn, door Door) (*Conn, error) {
	congestion := tune(raw, s.UserTimeout)
	meter := link.NewMeter(raw)
	conn, err := s.handshake(ctx, meter, door)
	if err != nil {
		meter.Close()
		return nil, err
	}
	conn.Congestion = congestion
	return conn, nil
}

func (s *Server) handshake(ctx context.Context, meter *link.Meter, door Door) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { meter.Close() })
	defer stop()
	timeout := s.HandshakeTimeout
	if timeout == 0 {
		timeout = DefaultHandshakeTimeout
	}
	meter.SetDeadline(time.Now().Add(timeout)) // absolute: a trickle does not extend it

	c := &Conn{Meter: meter, Fingerprint: s.Key.Fingerprint, Addr: remoteAddr(meter)}
	c.Conn = tls.Server(meter, &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{wire.ALPN},
		Certificates:           []tls.Certificate{s.Key.cert},
		SessionTicketsDisabled: true,
	})
	if err := c.Handshake(); err != nil { //nolint:noctx // AfterFunc above
		return nil, fmt.Errorf("tls: %w", err)
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != wire.ALPN { // a client that offers none gets this far
		return nil, fmt.Errorf("tls: %w", wire.Violation("no ALPN %s", wire.ALPN))
	}
	b, err := binding(&state, s.Key.cert.Leaf)
	if err != nil {
		return nil, err
	}
	own := s.Hello
	own.MinVersion, own.MaxVersion = wire.MinVersion, wire.MaxVersion
	own.Features |= wire.FeatureReceipts // every link sends them
	// The proxy's HELLO came in the flight that ended TLS: to read it first costs
	// no time, and two ends that both write first need buffers between them.
	if err := readHello(c, &c.Peer); err != nil {
		return nil, err
	}
	if _, err := c.Write(wire.Append(nil, &own)); err != nil {
		return nil, fmt.Errorf("write HELLO: %w", err)
	}
	if c.Version, err = checkHello(&own, &c.Peer); err != nil {
		deny(c, &wire.Denied{Code: wire.CodeVersion, Message: err.Error()})
		return nil, err
	}
	c.Identity, err = s.Verifier.Verify(c.Conn, keyauth.Peer{
		Binding: b,
		Addr:    c.Addr,
		Picked: func() {
			meter.SetDeadline(time.Now().Add(SignatureTimeout))
			if door.Picked != nil {
				door.Picked()
			}
		},
	})
	if err != nil {
		return nil, err
	}
	welcome, denied := &wire.Welcome{}, (*wire.Denied)(nil)
	if door.Admit != nil {
		welcome, denied = door.Admit(c.Identity)
	}
	if denied != nil {
		deny(c, denied)
		return nil, &keyauth.VerifyError{Reason: keyauth.ReasonBusy, Err: errors.New(denied.Message)}
	}
	if _, err := c.Write(wire.Append(nil, welcome)); err != nil {
		return nil, fmt.Errorf("write WELCOME: %w", err)
	}
	meter.SetDeadline(time.Time{})
	return c, nil
}

// partingTime is how long a proxy that was denied may take to leave.
const partingTime = time.Second

// deny tells the proxy why, best effort. It reads what the proxy has sent on, for
// a close with unread bytes is a reset that would overtake the words.
func deny(c *Conn, why *wire.Denied) {
	if _, err := c.Write(wire.Append(nil, why)); err == nil {
		c.Meter.SetDeadline(time.Now().Add(partingTime))
		_, _ = wire.ReadHandshake(c)
	}
}

// remoteAddr is the peer's address without port and zone; invalid for a
// connection that has none.
func remoteAddr(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
