package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Reason is why a link ended, as a label of sshka_links_lost_total.
type Reason string

// The reasons.
const (
	MissedBeats Reason = "missed_beats" // the peer was silent for count_max beats
	Reset       Reason = "reset"        // TCP reset
	EOF         Reason = "eof"          // the peer closed the connection
	Timeout     Reason = "timeout"      // TCP gave up
	TLS         Reason = "tls"          // a damaged record, or a TLS alert
	Protocol    Reason = "protocol"     // the peer broke the protocol
	Shutdown    Reason = "shutdown"     // this end, or the peer's GOAWAY
	// The link was replaced by a newer one, at the proxy's end.
	NetworkChanged Reason = "network_changed" // it did not answer after a change of the network, or after sleep
	MaxAge         Reason = "max_age"         // it was as old as it may get

	Network Reason = "network" // any other error of the connection
)

// Reasons lists every Reason, for labels that exist from the start.
var Reasons = []Reason{MissedBeats, Reset, EOF, Timeout, TLS, Protocol, Shutdown, NetworkChanged, MaxAge, Network}

// LostError is why a link ended. Every wait on a link that has ended returns it.
type LostError struct {
	Reason Reason
	Err    error // may be nil
}

func (e *LostError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("link lost (%s)", e.Reason)
	}
	return fmt.Sprintf("link lost (%s): %v", e.Reason, e.Err)
}

// Unwrap returns the error beneath, unless that is a violation: one that ends a link
// is a lost carrier to the sessions on it, and none of theirs (docs/protocol.md §1).
func (e *LostError) Unwrap() error {
	if errors.Is(e.Err, wire.ErrProtocol) {
		return nil
	}
	return e.Err
}

// classify names the reason behind an error of the connection.
func classify(err error) Reason {
	var (
		record tls.RecordHeaderError
		alert  tls.AlertError
		ne     net.Error
		op     *net.OpError
	)
	switch {
	case errors.Is(err, wire.ErrProtocol):
		return Protocol
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return EOF
	case errors.As(err, &record), errors.As(err, &alert),
		errors.As(err, &op) && (op.Op == "local error" || op.Op == "remote error"): // crypto/tls's alerts
		return TLS
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return Timeout
	}
	return Network
}
