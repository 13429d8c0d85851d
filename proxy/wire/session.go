package wire

import (
	"net"
	"strconv"
	"time"
)

// Target is the host and port that a client asked for.
type Target struct {
	// Host is a name or an IP address without brackets, 1 to MaxText bytes.
	Host string
	Port uint16
}

// String joins host and port, with brackets around an IPv6 address.
func (t Target) String() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// Open starts a session: the first frame on a carrier. It may be repeated on a
// later carrier to the same relay instance until it is answered; the relay
// dials once per ID.
type Open struct {
	// ID is chosen by the proxy at random.
	ID ID
	// Generation grows with every carrier of the session, from 1.
	Generation uint64
	// Limit is the offset below which the proxy stores the relay's bytes.
	Limit  uint64
	Target Target
	// Early is the session's first bytes, from offset 0, at most MaxEarly. They
	// count as DATA whatever the limit.
	Early []byte
}

// Type is TypeOpen.
func (*Open) Type() Type { return TypeOpen }

func (m *Open) appendBody(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = appendU64(b, m.Generation)
	b = appendU64(b, m.Limit)
	b = appendText(b, m.Target.Host)
	b = appendU16(b, m.Target.Port)
	return append(b, m.Early...)
}

func (m *Open) parseBody(f *fields) {
	f.fill(m.ID[:], "id")
	m.Generation = f.u64("generation")
	m.Limit = f.u64("limit")
	m.Target.Host = f.text("host")
	m.Target.Port = f.u16("port")
	m.Early = f.rest()
	switch {
	case f.err != nil:
	case m.Generation == 0:
		f.fail("generation 0")
	case m.Target.Host == "":
		f.fail("empty host")
	case m.Target.Port == 0:
		f.fail("port 0")
	case len(m.Early) > MaxEarly:
		f.fail("%d early bytes, at most %d", len(m.Early), MaxEarly)
	}
}

// Resume carries a session on: the first frame on a later carrier.
type Resume struct {
	ID ID
	// Generation is larger than that of every earlier carrier.
	Generation uint64
	// Received is what the proxy has stored, counted as in Ack.
	Received uint64
	// Limit is the offset below which the proxy stores the relay's bytes.
	Limit uint64
	// Instance is the relay process that holds the session.
	Instance ID
}

// Type is TypeResume.
func (*Resume) Type() Type { return TypeResume }

func (m *Resume) appendBody(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = appendU64(b, m.Generation)
	b = appendU64(b, m.Received)
	b = appendU64(b, m.Limit)
	return append(b, m.Instance[:]...)
}

func (m *Resume) parseBody(f *fields) {
	f.fill(m.ID[:], "id")
	m.Generation = f.u64("generation")
	m.Received = f.u64("received")
	m.Limit = f.u64("limit")
	f.fill(m.Instance[:], "instance")
	if f.err == nil && m.Generation == 0 {
		f.fail("generation 0")
	}
}

// OK answers an OPEN once the target is reached, and a RESUME. From here DATA
// flows both ways.
type OK struct {
	// Received is what the relay has stored, counted as in Ack.
	Received uint64
	// Limit is the offset below which the relay stores the proxy's bytes.
	Limit uint64
	// Secret is the session's ticket; its ID is the session's.
	Secret Secret
}

// Type is TypeOK.
func (*OK) Type() Type { return TypeOK }

func (m *OK) appendBody(b []byte) []byte {
	b = appendU64(b, m.Received)
	b = appendU64(b, m.Limit)
	return append(b, m.Secret[:]...)
}

func (m *OK) parseBody(f *fields) {
	m.Received = f.u64("received")
	m.Limit = f.u64("limit")
	f.fill(m.Secret[:], "secret")
}

// Refused answers an OPEN or a RESUME that cannot be fulfilled. Nothing follows
// it on the carrier.
type Refused struct {
	Code Code
	// RetryAfter is when to come back, in whole milliseconds. Zero: not said.
	RetryAfter time.Duration
	// Message is one line for a person, at most MaxText bytes.
	Message string
}

// Type is TypeRefused.
func (*Refused) Type() Type { return TypeRefused }

func (m *Refused) appendBody(b []byte) []byte {
	return appendRefusal(b, m.Code, m.RetryAfter, m.Message)
}
func (m *Refused) parseBody(f *fields) { m.Code, m.RetryAfter, m.Message = f.refusal() }

// Data carries bytes of one direction. Bytes that the receiver already has are
// dropped, a gap is an error.
type Data struct {
	// Offset is the position of the first byte, counted from the start of the
	// session.
	Offset uint64
	// Bytes are 1 to MaxData bytes.
	Bytes []byte
}

// Type is TypeData.
func (*Data) Type() Type { return TypeData }

func (m *Data) appendBody(b []byte) []byte { return append(appendU64(b, m.Offset), m.Bytes...) }

func (m *Data) parseBody(f *fields) {
	m.Offset = f.u64("offset")
	m.Bytes = f.rest()
	if f.err == nil && len(m.Bytes) == 0 {
		f.fail("no bytes")
	}
}

// Fin ends one direction: no bytes follow Offset.
type Fin struct {
	Offset uint64
}

// Type is TypeFin.
func (*Fin) Type() Type { return TypeFin }

func (m *Fin) appendBody(b []byte) []byte { return appendU64(b, m.Offset) }
func (m *Fin) parseBody(f *fields)        { m.Offset = f.u64("offset") }

// Ack tells what the sender has stored and how much more it can.
type Ack struct {
	// Received counts the bytes stored since the session's start, and the FIN
	// as one more.
	Received uint64
	// Limit is the offset below which the sender stores bytes. It never falls.
	// A FIN needs no room.
	Limit uint64
}

// Type is TypeAck.
func (*Ack) Type() Type { return TypeAck }

func (m *Ack) appendBody(b []byte) []byte { return appendU64(appendU64(b, m.Received), m.Limit) }

func (m *Ack) parseBody(f *fields) {
	m.Received = f.u64("received")
	m.Limit = f.u64("limit")
}

// Reset ends a session at once, both directions. It is repeated on later
// carriers until RESET_ACK confirms it.
type Reset struct {
	Code Code
	// Message is one line for a person, at most MaxText bytes.
	Message string
}

// Type is TypeReset.
func (*Reset) Type() Type { return TypeReset }

func (m *Reset) appendBody(b []byte) []byte {
	return appendText(appendU16(b, uint16(m.Code)), m.Message)
}

func (m *Reset) parseBody(f *fields) {
	m.Code = Code(f.u16("code"))
	m.Message = f.text("message")
}

// ResetAck confirms a RESET. It is the last frame on a carrier.
type ResetAck struct{}

// Type is TypeResetAck.
func (*ResetAck) Type() Type { return TypeResetAck }

func (*ResetAck) appendBody(b []byte) []byte { return b }
func (*ResetAck) parseBody(*fields)          {}

// Moved tells the end of an older carrier that its session goes on over a newer
// one. It is the last frame on the older carrier.
type Moved struct {
	// Generation is the newer carrier's.
	Generation uint64
}

// Type is TypeMoved.
func (*Moved) Type() Type { return TypeMoved }

func (m *Moved) appendBody(b []byte) []byte { return appendU64(b, m.Generation) }
func (m *Moved) parseBody(f *fields)        { m.Generation = f.u64("generation") }

// TargetLeft tells the proxy that the target ended its connection while the
// session had no carrier: somebody may want to know that it was not the proxy's
// doing. It changes nothing, and a reader that does not know it skips it.
type TargetLeft struct {
	// Detached is how long there had been no carrier by then, in whole
	// milliseconds.
	Detached time.Duration
}

// Type is TypeTargetLeft.
func (*TargetLeft) Type() Type { return TypeTargetLeft }

func (m *TargetLeft) appendBody(b []byte) []byte { return appendMillis(b, m.Detached) }
func (m *TargetLeft) parseBody(f *fields)        { m.Detached = f.millis("detached") }
