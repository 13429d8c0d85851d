package keyauth

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// MaxTickets is how many TICKETs one connection may try before its OFFER: the
// link's, a session's, and room for a mistake.
const MaxTickets = 4

// Grant is what the authorizing line gives a key.
type Grant struct {
	// File and Line tell where the line stands, from 1.
	File string
	Line int
	// Comment is what follows the key on the line. Often empty.
	Comment string
	// PermitOpen lists the targets that the key may open connections to, as far as
	// the relay allows them. Nil: whatever the relay allows. See Permits.
	PermitOpen []PermitOpen
	// Until is when the line expires. Zero: never.
	Until time.Time
	// NoTouch accepts the signature of a security key that nobody touched, and
	// VerifyUser wants one that has verified its user (a PIN, a finger). Neither
	// means anything for other keys.
	NoTouch, VerifyUser bool
}

// Identity is who has been authenticated.
type Identity struct {
	// == would panic on what some keys are made of, so that it does not compile.
	_ [0]func()

	// Fingerprint names the identity. For a key it is the key's, as ssh-keygen -l
	// shows it: SHA256:... For a certificate it is its authority's with the key
	// id: CA SHA256:... id "...". Two identities are the same if their
	// fingerprints are. It is safe to print.
	Fingerprint string
	// Key is the proven key, or a certificate (*ssh.Certificate), for asking the
	// Authorizer again later.
	Key ssh.PublicKey
	// Grant is what the key may do, as of its authentication.
	Grant Grant
	// Ticket is the kind of ticket that stood for the key. Zero: the key itself
	// was proven.
	Ticket wire.TicketKind
	// TicketID is that ticket's. Zero without one.
	TicketID wire.ID
}

// An Authorizer knows which keys may do what. It is safe for use by many
// goroutines.
type Authorizer interface {
	// Authorize returns what key may do if its owner comes from addr, and
	// whether it may do anything at all.
	//
	// The key may be a certificate (*ssh.Certificate). Its signature by its own
	// SignatureKey, its type and its time have been checked, and that its options
	// are known ones; not whether that authority is to be trusted, nor for which
	// principals, nor its source-address.
	Authorize(key ssh.PublicKey, addr netip.Addr) (Grant, bool)
}

// A Rechecker is an Authorizer that can say who is not authorized any more. One
// that cannot is asked when a link comes in, and its first answer stands for as
// long as the link does.
type Rechecker interface {
	Authorizer
	// Version looks whether anything has changed. It returns another number than
	// before when Recheck may answer otherwise than it did, but for lines that
	// expire (Grant.Until). It is to be called every few seconds and does not
	// wait for anything but a file.
	Version() uint64
	// Recheck is Authorize for somebody who was authorized before, as of the last
	// Version. It forgives a list that cannot be read for a moment, and waits for
	// nothing.
	Recheck(key ssh.PublicKey, addr netip.Addr) (Grant, bool)
}

// Reason tells in one word why an authentication failed. The set is fixed: it
// can be the label of a metric.
type Reason string

// The reasons.
const (
	ReasonNoKey         Reason = "no_key"         // none of the offered keys is authorized
	ReasonBadSignature  Reason = "bad_signature"  // the proof does not hold
	ReasonProtocol      Reason = "protocol"       // the peer broke the protocol
	ReasonTicketUnknown Reason = "ticket_unknown" // no such ticket, and no key followed
	ReasonTimeout       Reason = "timeout"        // the connection's deadline passed
	ReasonClosed        Reason = "closed"         // the connection ended
	ReasonBusy          Reason = "busy"           // authenticated, and there is no room for another link
)

// Reasons returns every Reason there is.
func Reasons() []Reason {
	return []Reason{
		ReasonNoKey, ReasonBadSignature, ReasonProtocol, ReasonTicketUnknown, ReasonTimeout, ReasonClosed,
		ReasonBusy,
	}
}

// VerifyError is every error of Verifier.Verify.
type VerifyError struct {
	Reason Reason
	// Err is the cause, for the relay's own log. It may hold text that the peer
	// chose, and more than the peer was told.
	Err error
}

// Error is the cause in one line.
func (e *VerifyError) Error() string { return "authenticate proxy: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// Timeout reports whether a deadline was the cause, as in net.Error.
func (e *VerifyError) Timeout() bool { return e.Reason == ReasonTimeout }

// Verifier authenticates, for a relay, the proxies that connect to it. It holds
// nothing of its own and may be used by many goroutines.
type Verifier struct {
	// Authorizer decides which keys are accepted. Required.
	Authorizer Authorizer
	// Ticket looks up a ticket that the relay handed out, returning its secret
	// and whose it is. False: there is none, or its owner is no longer
	// authorized from addr. It is asked before the MAC is checked, so a ticket
	// must not count as used yet. Nil: no ticket is known.
	Ticket func(kind wire.TicketKind, id wire.ID, addr netip.Addr) (wire.Secret, Identity, bool)
}

// Peer is the proxy at the other end of a connection.
type Peer struct {
	// Binding names the connection.
	Binding Binding
	// Addr is where the proxy comes from.
	Addr netip.Addr
	// Picked is called once PICK is written: from here a person may have to touch
	// a key, so that the caller may want another deadline. May be nil.
	Picked func()
}

// Verify reads what the proxy sends after its HELLO, a TICKET or an OFFER, and
// returns who it is. The caller then writes WELCOME. If the proxy cannot prove
// anything that is authorized it is told so, in words that tell no more than an
// ssh server would, and the error is a *VerifyError. The caller closes.
//
// Reads and writes end by the caller's deadlines.
func (v *Verifier) Verify(rw io.ReadWriter, p Peer) (Identity, error) {
	for tickets := 0; ; tickets++ {
		m, err := wire.ReadHandshake(rw)
		if err != nil {
			return Identity{}, v.failRead(rw, err, tickets > 0)
		}
		switch m := m.(type) {
		case *wire.Offer:
			return v.verifyKey(rw, p, m)
		case *wire.Ticket:
			if id, ok := v.redeem(m, p); ok {
				return id, nil
			}
			if tickets == MaxTickets {
				return Identity{}, v.deny(rw, ReasonTicketUnknown, wire.CodeProtocol, "too many tickets",
					wire.Violation("more than %d tickets", MaxTickets))
			}
			if err := write(rw, &wire.Denied{Code: wire.CodeUnknown, Message: "ticket unknown"}); err != nil {
				return Identity{}, failIO(err)
			}
		default:
			return Identity{}, v.failRead(rw, wire.Unexpected(m), false)
		}
	}
}

// redeem returns whose ticket t is, if it is one and its MAC is right.
func (v *Verifier) redeem(t *wire.Ticket, p Peer) (Identity, bool) {
	if v.Ticket == nil {
		return Identity{}, false
	}
	secret, id, ok := v.Ticket(t.Kind, t.ID, p.Addr)
	if !ok || !CheckTicket(t, secret, p.Binding) {
		return Identity{}, false
	}
	id.Ticket, id.TicketID = t.Kind, t.ID
	return id, true
}

// verifyKey picks a key of o and checks the proof of it.
func (v *Verifier) verifyKey(rw io.ReadWriter, p Peer, o *wire.Offer) (Identity, error) {
	i, key := v.pick(o, p.Addr)
	if key == nil {
		return Identity{}, v.deny(rw, ReasonNoKey, wire.CodeNotAllowed, "key not authorized",
			fmt.Errorf("none of %d offered keys is authorized", len(o.Keys)))
	}
	if err := write(rw, &wire.Pick{Index: uint8(i)}); err != nil {
		return Identity{}, failIO(err)
	}
	if p.Picked != nil {
		p.Picked()
	}

	m, err := wire.ReadHandshake(rw)
	if err != nil {
		return Identity{}, v.failRead(rw, err, false)
	}
	proof, ok := m.(*wire.Proof)
	if !ok {
		return Identity{}, v.failRead(rw, wire.Unexpected(m), false)
	}
	id := Identity{Fingerprint: identityName(key), Key: key}
	// Once more: while a person looked for the key to touch, its line may have
	// gone, or its time.
	id.Grant, ok = v.Authorizer.Authorize(key, p.Addr)
	if err := checkOffered(key); err != nil || !ok {
		return Identity{}, v.deny(rw, ReasonNoKey, wire.CodeNotAllowed, "key not authorized",
			fmt.Errorf("%s is no longer authorized", id.Fingerprint))
	}
	if err := checkProof(proof.Signature, o.Keys[i], key, p.Binding, &id.Grant); err != nil {
		return Identity{}, v.deny(rw, ReasonBadSignature, wire.CodeNotAllowed, "signature not accepted",
			fmt.Errorf("check signature of %s: %w", id.Fingerprint, err))
	}
	return id, nil
}

// pick returns the first of the offered keys that is authorized, or nil.
// Whatever is no key of an accepted type is passed over: a newer proxy may
// offer more than this relay knows.
func (v *Verifier) pick(o *wire.Offer, addr netip.Addr) (int, ssh.PublicKey) {
	var keys []ssh.PublicKey
	var index []int // of keys, in the offer
	for i, blob := range o.Keys {
		key, err := ssh.ParsePublicKey(blob)
		if err == nil && checkOffered(key) == nil {
			keys, index = append(keys, key), append(index, i)
		}
	}
	if i := v.firstAuthorized(keys, addr); i >= 0 {
		return index[i], keys[i]
	}
	return 0, nil
}

// picker is an Authorizer that wants to see all keys of an OFFER before it asks
// further.
type picker interface {
	// pick returns the index of the first key that is authorized, or -1.
	pick(keys []ssh.PublicKey, addr netip.Addr) int
}

func (v *Verifier) firstAuthorized(keys []ssh.PublicKey, addr netip.Addr) int {
	if p, ok := v.Authorizer.(picker); ok {
		return p.pick(keys, addr)
	}
	return slices.IndexFunc(keys, func(key ssh.PublicKey) bool {
		_, ok := v.Authorizer.Authorize(key, addr)
		return ok
	})
}

// checkOffered tells why key is never accepted, whoever is authorized.
func checkOffered(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return checkCertificate(cert, time.Now())
	}
	return checkKeyType(key)
}

// deny tells the proxy and returns the error. Whether the proxy hears it makes
// no difference.
func (v *Verifier) deny(w io.Writer, r Reason, c wire.Code, message string, err error) error {
	_ = write(w, &wire.Denied{Code: c, Message: message})
	return &VerifyError{Reason: r, Err: err}
}

// failRead is the end after a message that could not be read or has no place.
// Where a ticket was refused before, that is why the peer went.
func (v *Verifier) failRead(w io.Writer, err error, ticket bool) error {
	switch {
	case errors.Is(err, wire.ErrProtocol):
		return v.deny(w, ReasonProtocol, wire.CodeProtocol, "protocol error", err)
	case ticket && errors.Is(err, io.EOF):
		return &VerifyError{Reason: ReasonTicketUnknown, Err: errors.New("ticket unknown, and no key offered")}
	}
	return failIO(err)
}

// failIO is the end of a connection that failed.
func failIO(err error) error {
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); errors.Is(err, os.ErrDeadlineExceeded) || ok && t.Timeout() {
		return &VerifyError{Reason: ReasonTimeout, Err: err}
	}
	return &VerifyError{Reason: ReasonClosed, Err: err}
}

func write(w io.Writer, m wire.Message) error {
	_, err := w.Write(wire.Append(nil, m))
	return err
}
