package inbound

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// dialect is one protocol: how a request is read, and how it is answered.
type dialect struct {
	protocol Protocol
	// read reads the request and not a byte more, and returns the target. Upon a
	// *requestError the client is owed an answer.
	read func(c *caller) (address string, err error)
	// reply is the answer: nil says that the target is reached.
	reply func(err error) []byte
}

var (
	socks5Dialect  = dialect{SOCKS5, readSOCKS5, replySOCKS5}
	socks4Dialect  = dialect{SOCKS4, readSOCKS4, replySOCKS4}
	connectDialect = dialect{CONNECT, readConnect, replyConnect}
	forwardDialect = dialect{Forward, nil, nil}
)

// dialectOf tells the protocol by the first byte. It leaves that byte unread.
func dialectOf(c *caller) (*dialect, error) {
	first, err := c.r.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("read first byte: %w", err)
	}
	switch b := first[0]; {
	case b == 5:
		return &socks5Dialect, nil
	case b == 4:
		return &socks4Dialect, nil
	case 'A' <= b && b <= 'Z', 'a' <= b && b <= 'z':
		return &connectDialect, nil
	default:
		return nil, fmt.Errorf("first byte %#02x is neither SOCKS nor HTTP", b)
	}
}

// reached tells the client that its target is reached.
func (d *dialect) reached(c *caller) error {
	if d.reply == nil {
		return nil
	}
	_, err := c.Write(d.reply(nil))
	return err
}

// notReached tells the client why its target was not reached, and closes c.
func (d *dialect) notReached(c *caller, err error) {
	var gone *goneError
	if d.reply == nil || errors.As(err, &gone) {
		c.Abort(err)
		c.Close()
		return
	}
	c.turnAway(d.reply(err))
}

// misread closes c, whose request was not understood because of err.
func (d *dialect) misread(c *caller, err error) {
	var bad *requestError
	switch {
	case errors.As(err, &bad):
		c.turnAway(d.reply(err))
	case errors.Is(err, os.ErrDeadlineExceeded): // it had its time
		c.Close()
	default:
		c.turnAway(nil) // go-socks5 has answered, or nobody listens
	}
}

// requestError is a request that makes no sense, or none here.
type requestError struct {
	status int // HTTP's; SOCKS does not tell these apart
	why    string
}

func (e *requestError) Error() string { return e.why }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// targetOf checks a host and a port and joins them. The error is a
// *requestError. Whether the host is one is the relay's to say: here it only has
// to survive the way there.
func targetOf(host, port string) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", badRequest("%q is not a port: 1 to 65535", clip(port))
	}
	switch {
	case host == "":
		return "", badRequest("the target's host is empty")
	case len(host) > wire.MaxText:
		return "", badRequest("the target's host has %d bytes, at most %d", len(host), wire.MaxText)
	case !utf8.ValidString(host), strings.ContainsFunc(host, notInHost):
		return "", badRequest("%q is not a host", host)
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", badRequest("%q is not an address", host)
		}
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// notInHost reports what no name and no address has.
func notInHost(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`[]/\@"`, r)
}

// parseTarget reads HOST:PORT. The error is a *requestError.
func parseTarget(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", badRequest("%q is not HOST:PORT", clip(address))
	}
	return targetOf(host, port)
}

// clip shortens what a client said to what an error can hold.
func clip(s string) string {
	const enough = 80
	if len(s) <= enough {
		return s
	}
	return s[:enough] + "..."
}
