package wire

import (
	"encoding/hex"
	"time"
)

// The versions of the protocol that this package speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// ALPN is the application protocol that both ends negotiate in TLS (RFC 7301).
const ALPN = "sshka/1"

// ID is 128 random bits that name a session, a ticket or a relay's instance.
type ID [16]byte

// String returns id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Secret is the 256 random bits of a ticket.
type Secret [32]byte

// String hides the secret, so that it reaches no log by accident.
func (Secret) String() string { return "secret" }

// GoString hides the secret from %#v too.
func (s Secret) GoString() string { return s.String() }

// Features is a set of optional abilities that a HELLO announces. An ability is
// used when both ends announce it; unknown bits are ignored.
type Features uint64

// The features of version 1.
const (
	// FeatureReceipts: this end sends RECEIPT.
	FeatureReceipts Features = 1 << 0
	// FeatureResume: this end carries sessions over more than one link.
	FeatureResume Features = 1 << 1
)

// Hello is the first message of both ends, sent without waiting for the
// peer's. Its form never changes; later versions may append to it.
type Hello struct {
	// MinVersion and MaxVersion are the versions the sender speaks. The highest
	// that both speak is used; none is the end of the link.
	MinVersion, MaxVersion uint16
	// Features are the sender's abilities.
	Features Features
	// Instance names one run of a relay process. Zero from a proxy.
	Instance ID
	// Window is how long a relay keeps a detached session, in whole
	// milliseconds. Zero: sessions end with their link. Zero from a proxy.
	Window time.Duration
	// Agent is the sender's name and version, for logs: "sshka-relay/1.0.0".
	Agent string
}

// Type is TypeHello.
func (*Hello) Type() Type { return TypeHello }

func (m *Hello) appendBody(b []byte) []byte {
	b = appendU16(b, m.MinVersion)
	b = appendU16(b, m.MaxVersion)
	b = appendU64(b, uint64(m.Features))
	b = append(b, m.Instance[:]...)
	b = appendMillis(b, m.Window)
	return appendText(b, m.Agent)
}

func (m *Hello) parseBody(f *fields) {
	m.MinVersion = f.u16("min version")
	m.MaxVersion = f.u16("max version")
	m.Features = Features(f.u64("features"))
	f.fill(m.Instance[:], "instance")
	m.Window = f.millis("window")
	m.Agent = f.text("agent")
	if f.err == nil && m.MinVersion > m.MaxVersion {
		f.fail("versions %d to %d", m.MinVersion, m.MaxVersion)
	}
}

// Negotiate returns the version to speak with a peer that sent h, or 0 when
// there is none.
func (m *Hello) Negotiate(peer *Hello) uint16 {
	v := min(m.MaxVersion, peer.MaxVersion)
	if v < m.MinVersion || v < peer.MinVersion {
		return 0
	}
	return v
}

// MaxOffers is the most public keys one OFFER lists.
const MaxOffers = 64

// Offer lists the public keys that the proxy can prove, in its order of
// preference, each as an SSH public key or certificate blob (RFC 4253 §6.6,
// OpenSSH PROTOCOL.certkeys).
type Offer struct {
	Keys [][]byte
}

// Type is TypeOffer.
func (*Offer) Type() Type { return TypeOffer }

func (m *Offer) appendBody(b []byte) []byte {
	b = append(b, byte(len(m.Keys)))
	for _, k := range m.Keys {
		b = appendBlob(b, k)
	}
	return b
}

func (m *Offer) parseBody(f *fields) {
	n := int(f.u8("number of keys"))
	if n == 0 || n > MaxOffers {
		f.fail("%d keys, 1 to %d are allowed", n, MaxOffers)
		return
	}
	for range n {
		m.Keys = append(m.Keys, f.blob("key"))
	}
}

// Pick is the relay's answer to an OFFER: prove this one.
type Pick struct {
	// Index counts the offered keys from 0.
	Index uint8
}

// Type is TypePick.
func (*Pick) Type() Type { return TypePick }

func (m *Pick) appendBody(b []byte) []byte { return append(b, m.Index) }
func (m *Pick) parseBody(f *fields)        { m.Index = f.u8("index") }

// Proof is the proxy's answer to a PICK.
type Proof struct {
	// Signature is an SSHSIG blob (OpenSSH PROTOCOL.sshsig), unarmoured.
	Signature []byte
}

// Type is TypeProof.
func (*Proof) Type() Type { return TypeProof }

func (m *Proof) appendBody(b []byte) []byte { return appendBlob(b, m.Signature) }
func (m *Proof) parseBody(f *fields)        { m.Signature = f.blob("signature") }

// TicketKind tells what a ticket was handed out for.
type TicketKind uint8

// The kinds of tickets.
const (
	// TicketLink came with a WELCOME.
	TicketLink TicketKind = 1
	// TicketSession came with a session's OK; its ID is the session's.
	TicketSession TicketKind = 2
)

// Ticket proves, instead of a key, possession of a secret that the relay handed
// out before. An unknown ticket is answered with DENIED and CodeUnknown, after
// which an OFFER may follow on the same connection.
type Ticket struct {
	Kind TicketKind
	ID   ID
	// MAC is HMAC-SHA256(secret, "client\x00" ‖ exporter ‖ SHA-256(SPKI)).
	MAC [32]byte
}

// Type is TypeTicket.
func (*Ticket) Type() Type { return TypeTicket }

func (m *Ticket) appendBody(b []byte) []byte {
	b = append(b, byte(m.Kind))
	b = append(b, m.ID[:]...)
	return append(b, m.MAC[:]...)
}

func (m *Ticket) parseBody(f *fields) {
	m.Kind = TicketKind(f.u8("kind"))
	f.fill(m.ID[:], "id")
	f.fill(m.MAC[:], "mac")
	if f.err == nil && m.Kind != TicketLink && m.Kind != TicketSession {
		f.fail("kind %d", m.Kind)
	}
}

// Welcome ends the handshake: the proxy is authenticated, yamux follows. It
// hands out a ticket for later links.
type Welcome struct {
	TicketID ID
	Secret   Secret
}

// Type is TypeWelcome.
func (*Welcome) Type() Type { return TypeWelcome }

func (m *Welcome) appendBody(b []byte) []byte {
	b = append(b, m.TicketID[:]...)
	return append(b, m.Secret[:]...)
}

func (m *Welcome) parseBody(f *fields) {
	f.fill(m.TicketID[:], "ticket id")
	f.fill(m.Secret[:], "secret")
}

// Denied refuses the link, or one TICKET. The relay closes after it, except
// after a DENIED with CodeUnknown that answers a TICKET.
type Denied struct {
	Code Code
	// RetryAfter is when to come back, in whole milliseconds. Zero: not said.
	RetryAfter time.Duration
	// Message is one line for a person, at most MaxText bytes.
	Message string
}

// Type is TypeDenied.
func (*Denied) Type() Type { return TypeDenied }

func (m *Denied) appendBody(b []byte) []byte {
	return appendRefusal(b, m.Code, m.RetryAfter, m.Message)
}
func (m *Denied) parseBody(f *fields) { m.Code, m.RetryAfter, m.Message = f.refusal() }

func appendRefusal(b []byte, c Code, after time.Duration, msg string) []byte {
	b = appendU16(b, uint16(c))
	b = appendMillis(b, after)
	return appendText(b, msg)
}

func (f *fields) refusal() (Code, time.Duration, string) {
	return Code(f.u16("code")), f.millis("retry after"), f.text("message")
}
