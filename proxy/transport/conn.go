package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Conn is an authenticated connection, ready for a link.
type Conn struct {
	*tls.Conn
	// Meter is beneath TLS; closing it is the hard end.
	Meter *link.Meter
	// Congestion names TCP's congestion control at this end. Empty: not known.
	Congestion string
	// Peer is the other end's HELLO.
	Peer wire.Hello
	// Version is the protocol's, as both ends speak it.
	Version uint16
	// Fingerprint is the relay's key, SHA256:….
	Fingerprint string
	// Identity is the proxy's, at the relay's end.
	Identity keyauth.Identity
	// Addr is where the proxy comes from, at the relay's end. Invalid where a
	// connection has no address.
	Addr netip.Addr
	// Ticket is what the relay handed out, at the proxy's end, for later links.
	Ticket keyauth.Ticket
}

// Close ends the connection at once, without a TLS alert that could block.
func (c *Conn) Close() error { return c.Meter.Close() }

// ErrNotRelay is matched when something answers that is not a relay: another
// server, or a captive portal. Nothing was sent to it and nothing recorded.
var ErrNotRelay = errors.New("the answer is not from an sshka relay")

// ErrVersion is matched when both ends have no version of the protocol in common.
var ErrVersion = errors.New("no common protocol version")

// Fingerprint returns the name of a relay's key, as sshka-relay fingerprint
// prints it: SHA256: and the unpadded base64 of the hash of the SPKI.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// ParseFingerprint checks a fingerprint's form.
func ParseFingerprint(s string) error {
	encoded, ok := strings.CutPrefix(s, "SHA256:")
	sum, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%q is not a fingerprint (SHA256: and 43 characters, as sshka-relay fingerprint prints it)", s)
	}
	return nil
}

// binding ties a proof to this connection and this relay.
func binding(state *tls.ConnectionState, relay *x509.Certificate) (keyauth.Binding, error) {
	b := keyauth.Binding{Relay: sha256.Sum256(relay.RawSubjectPublicKeyInfo)}
	exported, err := state.ExportKeyingMaterial(keyauth.ExporterLabel, b.Relay[:], len(b.Exporter))
	if err != nil {
		return b, fmt.Errorf("bind to the connection: %w", err)
	}
	copy(b.Exporter[:], exported)
	return b, nil
}

// checkHello agrees on a version with a peer.
func checkHello(own, peer *wire.Hello) (uint16, error) {
	v := own.Negotiate(peer)
	if v == 0 {
		return 0, fmt.Errorf("%w: here %d to %d, there %d to %d (%q)", ErrVersion,
			own.MinVersion, own.MaxVersion, peer.MinVersion, peer.MaxVersion, peer.Agent)
	}
	return v, nil
}

// Timeouts of both ends.
const (
	// DefaultConnectTimeout bounds the TCP connection.
	DefaultConnectTimeout = 10 * time.Second
	// DefaultHandshakeTimeout bounds TLS and HELLO together, whatever trickles in.
	DefaultHandshakeTimeout = 10 * time.Second
	// SignatureTimeout bounds the proof: a security key waits for a touch.
	SignatureTimeout = 60 * time.Second
)
