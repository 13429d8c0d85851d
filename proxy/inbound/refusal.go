package inbound

import (
	"errors"
	"net"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Refusal is an error that knows the relay's reason. Dial returns such, so that
// clients can be told the truth.
type Refusal interface {
	error
	// RefusalCode is why the relay refused.
	RefusalCode() wire.Code
}

// refusalCode is why a dial failed: what the relay said, or what this machine's
// own network did. It is 0 when neither is known: then nobody tried.
func refusalCode(err error) wire.Code {
	var refusal Refusal
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &refusal):
		return refusal.RefusalCode()
	case errors.As(err, &dns) && dns.IsNotFound:
		return wire.CodeNoSuchHost
	case isAny(err, refusedErrnos):
		return wire.CodeRefused
	case isAny(err, unreachableErrnos):
		return wire.CodeUnreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		return wire.CodeTimeout
	default:
		return 0
	}
}
