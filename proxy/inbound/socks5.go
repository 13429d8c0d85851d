package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	socks5 "github.com/armon/go-socks5"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// readSOCKS5 lets go-socks5 negotiate, up to the moment it would dial. The dial,
// its answer and all that follows are ours (docs/decisions/0008): go-socks5 knows
// two reasons for a failure, by words in a text, and makes a clean end of a reset.
func readSOCKS5(c *caller) (address string, err error) {
	n := &negotiation{Conn: c.Conn, c: c}
	defer func() {
		if p := recover(); p != nil {
			address, err = "", fmt.Errorf("go-socks5 panicked: %v", p)
		}
	}()
	config := &socks5.Config{
		Resolver: unresolved{},
		Dial:     n.dial,
		Logger:   slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	if c.login != nil {
		config.AuthMethods = []socks5.Authenticator{socks5.UserPassAuthenticator{Credentials: c.login}}
	}
	server, err := socks5.New(config)
	if err != nil {
		return "", err
	}
	err = server.ServeConn(n)
	switch {
	case n.asked:
		return parseTarget(n.address)
	case err == nil:
		return "", errors.New("go-socks5 ended without a request")
	default:
		return "", err
	}
}

// negotiation is a connection until go-socks5 has a request. Then it is at its
// end, and what go-socks5 still says is dropped.
type negotiation struct {
	net.Conn
	c       *caller
	asked   bool
	address string
}

// Read reads one byte, so that go-socks5 never has more than it needs: a client
// may say the first of its own bytes at once.
func (n *negotiation) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if n.asked {
		return 0, net.ErrClosed
	}
	b, err := n.c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// Write writes go-socks5's answers to all but the request.
func (n *negotiation) Write(p []byte) (int, error) {
	if n.asked {
		return len(p), nil
	}
	return n.Conn.Write(p)
}

// Close does nothing: the connection goes on.
func (*negotiation) Close() error { return nil }

var errAsked = errors.New("the request is read")

// dial takes the request and ends go-socks5's work.
func (n *negotiation) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.asked, n.address = true, address
	return nil, errAsked
}

// unresolved leaves names to the relay: go-socks5 dials by name where the
// address is nil.
type unresolved struct{}

// Resolve returns no address.
func (unresolved) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// The answers of RFC 1928 §6 that we give.
const (
	socks5Succeeded          = 0
	socks5Failure            = 1
	socks5NotAllowed         = 2
	socks5NetworkUnreachable = 3
	socks5HostUnreachable    = 4
	socks5Refused            = 5
	socks5Expired            = 6
)

// replySOCKS5 tells err in one byte. The address that the target sees is the
// relay's, which we do not know: RFC 1928 has no way to say so but zeros.
func replySOCKS5(err error) []byte {
	var code byte
	switch refusalCode(err) {
	case 0:
		if err != nil {
			code = socks5Failure
		}
	case wire.CodeNotAllowed:
		code = socks5NotAllowed
	case wire.CodeUnreachable:
		code = socks5NetworkUnreachable
	case wire.CodeNoSuchHost:
		code = socks5HostUnreachable
	case wire.CodeRefused:
		code = socks5Refused
	case wire.CodeTimeout:
		code = socks5Expired
	default:
		code = socks5Failure
	}
	return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}
}
