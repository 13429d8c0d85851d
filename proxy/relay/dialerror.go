package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// errNotAllowed marks what policy refused. The text around it may hold resolved
// addresses: it is for the relay's log, not for the peer.
var errNotAllowed = errors.New("not allowed")

// badHostError is a host that is neither a name nor an address.
type badHostError struct{ error }

// lookupError is a name that was not resolved.
type lookupError struct{ error }

// Unwrap returns the resolver's error.
func (e lookupError) Unwrap() error { return e.error }

// DialError says why a target was not reached: to a program by Code, to the
// peer's person by Message, to the relay's log by Error.
type DialError struct {
	// Code is one of NotAllowed, NoSuchHost, Refused, Unreachable, Timeout, Busy
	// and Failed.
	Code wire.Code
	// Target is the host and port that were asked for.
	Target string
	// Relay is the relay's name, as in Dialer.
	Relay string
	// Within is the time that a dial could take.
	Within time.Duration
	// Err is the cause. It may name addresses that are none of the peer's
	// business.
	Err error
}

// dialError judges err by what kind it is.
func (d *Dialer) dialError(target wire.Target, err error) *DialError {
	return &DialError{Code: dialCode(err), Target: target.String(), Relay: d.Relay, Within: d.timeout(), Err: err}
}

// notAllowed is the refusal of a target that the relay would dial for others.
func (d *Dialer) notAllowed(target wire.Target, why error) *DialError {
	return d.dialError(target, fmt.Errorf("%w: %w", errNotAllowed, why))
}

// Error is for the relay's own log.
func (e *DialError) Error() string { return fmt.Sprintf("dial %q: %v", e.Target, e.Err) }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Timeout makes a DialError a net.Error.
func (e *DialError) Timeout() bool { return e.Code == wire.CodeTimeout }

// Temporary makes a DialError a net.Error: the same dial may succeed later.
func (e *DialError) Temporary() bool { return e.Timeout() || e.Code == wire.CodeBusy }

// Message returns one line for the peer, at most wire.MaxText bytes: the truth,
// without addresses that the peer did not name.
func (e *DialError) Message() string { return clip(e.message(), wire.MaxText) }

func (e *DialError) message() string {
	host, _, err := net.SplitHostPort(e.Target)
	if err != nil {
		host = e.Target
	}
	// Both are short enough for the sentence to end within MaxText, since the
	// end is the news.
	host, target := clip(host, 160), clip(e.Target, 160)
	var bad badHostError
	var lookup lookupError
	atLookup := errors.As(e.Err, &lookup)
	switch {
	case errors.As(e.Err, &bad):
		return bad.Error()
	case e.Code == wire.CodeNotAllowed && e.Relay == "":
		return target + " is not allowed by this relay"
	case e.Code == wire.CodeNotAllowed:
		return target + " is not allowed by relay " + e.Relay
	case e.Code == wire.CodeNoSuchHost:
		return "no such host " + host
	case e.Code == wire.CodeRefused:
		return target + " refused the connection"
	case e.Code == wire.CodeUnreachable:
		return "no route to " + target
	case e.Code == wire.CodeTimeout && atLookup:
		return "the relay's name server did not answer for " + host
	case e.Code == wire.CodeTimeout:
		return fmt.Sprintf("%s did not answer within %s", target, e.Within)
	case errors.Is(e.Err, errTooManyDials):
		return "this key has as many targets dialled as the relay lets it"
	case e.Code == wire.CodeBusy:
		return "the relay has no room for a connection to " + target
	case atLookup:
		return "the relay's name server failed to look up " + host
	case errors.Is(e.Err, context.Canceled):
		return "the connection to " + target + " was given up"
	default:
		return "the relay failed to connect to " + target
	}
}

// dialCode finds the code of err. Of several attempts' errors the one that says
// most about the target wins: refused by one address and no route to another is
// refused.
func dialCode(err error) wire.Code {
	var bad badHostError
	var dns *net.DNSError
	switch {
	case errors.As(err, &bad), errors.Is(err, errNotAllowed):
		return wire.CodeNotAllowed
	case isAny(err, exhaustedErrnos), errors.Is(err, errTooManyDials):
		return wire.CodeBusy
	case errors.As(err, &dns) && dns.IsNotFound:
		return wire.CodeNoSuchHost
	case isAny(err, refusedErrnos):
		return wire.CodeRefused
	case isTimeout(err):
		return wire.CodeTimeout
	case isAny(err, unreachableErrnos), errors.Is(err, fs.ErrPermission): // a local firewall or route says no
		return wire.CodeUnreachable
	default:
		return wire.CodeFailed
	}
}

func isAny(err error, errnos []error) bool {
	return slices.ContainsFunc(errnos, func(e error) bool { return errors.Is(err, e) })
}

// isTimeout reports whether any error in the tree of err is a timeout.
func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || isAny(err, timeoutErrnos) {
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(joined.Unwrap(), isTimeout)
	}
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// clip shortens s to n bytes, at a whole character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "..."
	n -= len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
