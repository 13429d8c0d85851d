package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Values that labels share.
const (
	resultOK       = "ok"
	resultCanceled = "canceled" // nobody wanted it any more
	resultNoLink   = "no_link"
	reasonClosed   = "closed" // both directions have ended
	reasonLink     = "link_lost"
	reasonCarrier  = "carrier_lost" // the link lives: the other end's process was killed
)

// codeValue is a code as a label: "no such host" is no_such_host. One that is not
// known here, a newer peer's, reads as CodeFailed.
func codeValue(c wire.Code) string {
	name := c.String()
	if strings.HasPrefix(name, "code ") {
		name = wire.CodeFailed.String()
	}
	return strings.ReplaceAll(name, " ", "_")
}

// withCodes appends codes to values.
func withCodes(values []string, codes ...wire.Code) []string {
	for _, c := range codes {
		values = append(values, codeValue(c))
	}
	return values
}

// linkReasons are the values of sshka_links_lost_total.
func linkReasons() []string {
	values := make([]string, 0, len(link.Reasons))
	for _, r := range link.Reasons {
		values = append(values, string(r))
	}
	return values
}

// congestionControls are what congestionControl returns.
var congestionControls = []string{"bbr", "cubic", "reno", "other", "unknown"}

// congestionControl is a kernel's name as a label.
func congestionControl(name string) string {
	switch {
	case name == "":
		return "unknown"
	case slices.Contains(congestionControls, name):
		return name
	}
	return "other"
}

// dialResults are what dialResult returns.
var dialResults = []string{
	resultOK, "unreachable", "timeout", "not_a_relay", "relay_key", "no_keys", "denied", "busy", "version", resultCanceled, "failed",
}

// dialResult says how an attempt to reach the relay went.
func dialResult(err error) string {
	if err == nil {
		return resultOK
	}
	var (
		key    *transport.RelayKeyError
		denied *keyauth.DeniedError
		dial   *transport.DialError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return resultCanceled
	case errors.As(err, &key):
		return "relay_key"
	case errors.As(err, &denied):
		return deniedResult(denied.Code)
	case errors.Is(err, keyauth.ErrNoKeys):
		return "no_keys"
	case errors.Is(err, transport.ErrVersion):
		return "version"
	case errors.Is(err, transport.ErrNotRelay):
		return "not_a_relay"
	case isTimeout(err):
		return "timeout"
	case errors.As(err, &dial):
		return "unreachable"
	}
	return "failed"
}

// deniedResult tells a relay that will not from one that cannot now.
func deniedResult(c wire.Code) string {
	switch c {
	case wire.CodeBusy, wire.CodeSlowDown, wire.CodeShuttingDown:
		return "busy"
	case wire.CodeVersion:
		return "version"
	default:
		return "denied"
	}
}

// openResults are what openResult returns.
var openResults = withCodes([]string{resultOK, resultCanceled, resultNoLink, reasonLink, reasonCarrier},
	wire.CodeNotAllowed, wire.CodeNoSuchHost, wire.CodeRefused, wire.CodeUnreachable, wire.CodeTimeout,
	wire.CodeBusy, wire.CodeSlowDown, wire.CodeShuttingDown, wire.CodeUnknown, wire.CodeAborted, wire.CodeProtocol, wire.CodeFailed)

// openResult says how the opening of a session went, at either end.
func openResult(err error) string {
	if err == nil {
		return resultOK
	}
	var dial *relay.DialError
	switch {
	case !errors.As(err, &dial):
		return ended(err)
	case errors.Is(err, context.Canceled):
		return resultCanceled
	}
	return codeValue(dial.Code)
}

// endReasons are what endReason returns.
var endReasons = withCodes([]string{reasonClosed, reasonLink, reasonCarrier, resultCanceled},
	wire.CodeAborted, wire.CodeTargetReset, wire.CodeShuttingDown, wire.CodeExpired, wire.CodeUnknown,
	wire.CodeEvicted, wire.CodeRevoked, wire.CodeEnded, wire.CodeNotAllowed, wire.CodeBusy, wire.CodeSlowDown,
	wire.CodeProtocol, wire.CodeFailed)

// endReason says how an open session ended.
func endReason(err error) string {
	if err == nil {
		return reasonClosed
	}
	return ended(err)
}

// ended names why a session is no more.
func ended(err error) string {
	var (
		reset   *session.ResetError
		refused *session.RefusedError
		lost    *link.LostError
	)
	switch {
	case errors.As(err, &reset):
		return codeValue(reset.Code)
	case errors.As(err, &refused):
		return codeValue(refused.Code)
	case errors.As(err, &lost):
		return reasonLink
	case errors.Is(err, context.Canceled):
		return resultCanceled
	}
	return reasonCarrier
}

// The reasons that keyauth does not know: it never saw those connections.
const (
	authTLS     = "tls"
	authVersion = "version"
)

// authReasons are what authReason returns.
func authReasons() []string {
	var values []string
	for _, r := range keyauth.Reasons() {
		values = append(values, string(r))
	}
	return append(values, authVersion, authTLS)
}

// authReason says why a connection did not become a link.
func authReason(err error) string {
	var verify *keyauth.VerifyError
	switch {
	case errors.As(err, &verify):
		return string(verify.Reason)
	case errors.Is(err, transport.ErrVersion):
		return authVersion
	case errors.Is(err, wire.ErrProtocol):
		return string(keyauth.ReasonProtocol)
	case isTimeout(err):
		return string(keyauth.ReasonTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return string(keyauth.ReasonClosed)
	}
	return authTLS
}

// limitValues are the values of sshka_limits_hit_total: what a relay limits, and
// what its links do.
func limitValues() []string {
	values := make([]string, 0, len(relay.AllLimits)+len(link.Limits))
	for _, l := range relay.AllLimits {
		values = append(values, string(l))
	}
	for _, l := range link.Limits {
		values = append(values, string(l))
	}
	return values
}

// isTimeout reports whether a deadline or the kernel's patience has passed.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &ne) && ne.Timeout()
}
