package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Type names a message; the first byte of its frame.
type Type uint8

// The message types. The high bit marks a type that a reader which does not
// know it skips.
const (
	TypeHello   Type = 0x01
	TypeOffer   Type = 0x02
	TypePick    Type = 0x03
	TypeProof   Type = 0x04
	TypeTicket  Type = 0x05
	TypeWelcome Type = 0x06
	TypeDenied  Type = 0x07

	TypeBeat     Type = 0x20
	TypeBeatAck  Type = 0x21
	TypeReceipt  Type = 0x22
	TypeGoAway   Type = 0x23
	TypeSlowDown Type = 0x24

	TypeOpen     Type = 0x40
	TypeResume   Type = 0x41
	TypeOK       Type = 0x42
	TypeRefused  Type = 0x43
	TypeData     Type = 0x44
	TypeFin      Type = 0x45
	TypeAck      Type = 0x46
	TypeReset    Type = 0x47
	TypeResetAck Type = 0x48
	TypeMoved    Type = 0x49

	TypeTargetLeft Type = 0xc0
)

// Sizes that the protocol fixes, in bytes.
const (
	// HeaderSize is the size of a frame's header.
	HeaderSize = 4
	// MaxHandshake is the largest body of a handshake message.
	MaxHandshake = 16 << 10
	// MaxControl is the largest body of a control message.
	MaxControl = 256
	// MaxEarly is the most data an OPEN may carry.
	MaxEarly = 16 << 10
	// MaxFrame is the largest frame of a session, header included.
	MaxFrame = 64 << 10
	// MaxData is the most data one DATA frame carries. A DATA frame of this
	// size and the 12 bytes that yamux puts before it fill 64 KiB.
	MaxData = MaxFrame - 12 - HeaderSize - dataPrefix
	// MaxText is the longest text a message carries: a reason, a name.
	MaxText = 255

	dataPrefix = 8 // the offset before a DATA frame's bytes
)

// Skippable reports whether a reader that does not know t skips it.
func (t Type) Skippable() bool { return t&0x80 != 0 }

// String returns the type's name as docs/protocol.md writes it.
func (t Type) String() string {
	if k, ok := kinds[t]; ok {
		return k.name
	}
	return fmt.Sprintf("type 0x%02x", uint8(t))
}

// A Message is one of the pointer types of this package.
type Message interface {
	// Type is the first byte of the message's frame.
	Type() Type
	// appendBody appends the message's body to b.
	appendBody(b []byte) []byte
	// parseBody fills the message from a body. Byte slices of the message
	// alias the body.
	parseBody(f *fields)
}

type kind struct {
	name string
	max  int // largest body
	new  func() Message
}

// kinds is the protocol's table of messages.
var kinds = map[Type]kind{
	TypeHello:      {"HELLO", MaxHandshake, func() Message { return new(Hello) }},
	TypeOffer:      {"OFFER", MaxHandshake, func() Message { return new(Offer) }},
	TypePick:       {"PICK", MaxHandshake, func() Message { return new(Pick) }},
	TypeProof:      {"PROOF", MaxHandshake, func() Message { return new(Proof) }},
	TypeTicket:     {"TICKET", MaxHandshake, func() Message { return new(Ticket) }},
	TypeWelcome:    {"WELCOME", MaxHandshake, func() Message { return new(Welcome) }},
	TypeDenied:     {"DENIED", MaxHandshake, func() Message { return new(Denied) }},
	TypeBeat:       {"BEAT", MaxControl, func() Message { return new(Beat) }},
	TypeBeatAck:    {"BEAT_ACK", MaxControl, func() Message { return new(BeatAck) }},
	TypeReceipt:    {"RECEIPT", MaxControl, func() Message { return new(Receipt) }},
	TypeGoAway:     {"GOAWAY", MaxControl, func() Message { return new(GoAway) }},
	TypeSlowDown:   {"SLOW_DOWN", MaxControl, func() Message { return new(SlowDown) }},
	TypeOpen:       {"OPEN", MaxFrame - HeaderSize, func() Message { return new(Open) }},
	TypeResume:     {"RESUME", MaxFrame - HeaderSize, func() Message { return new(Resume) }},
	TypeOK:         {"OK", MaxFrame - HeaderSize, func() Message { return new(OK) }},
	TypeRefused:    {"REFUSED", MaxFrame - HeaderSize, func() Message { return new(Refused) }},
	TypeData:       {"DATA", MaxData + dataPrefix, func() Message { return new(Data) }},
	TypeFin:        {"FIN", MaxFrame - HeaderSize, func() Message { return new(Fin) }},
	TypeAck:        {"ACK", MaxFrame - HeaderSize, func() Message { return new(Ack) }},
	TypeReset:      {"RESET", MaxFrame - HeaderSize, func() Message { return new(Reset) }},
	TypeResetAck:   {"RESET_ACK", MaxFrame - HeaderSize, func() Message { return new(ResetAck) }},
	TypeMoved:      {"MOVED", MaxFrame - HeaderSize, func() Message { return new(Moved) }},
	TypeTargetLeft: {"TARGET_LEFT", MaxControl, func() Message { return new(TargetLeft) }},
}

// ErrProtocol is matched by every error that means the peer broke the
// protocol, as opposed to an error of the connection beneath.
var ErrProtocol = errors.New("protocol error")

// Violation returns an error that matches ErrProtocol.
func Violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Unexpected is the error for a message that has no place where it was read.
func Unexpected(m Message) error {
	return Violation("unexpected %s", m.Type())
}

// Header is a frame's first four bytes.
type Header struct {
	Type   Type
	Length int // bytes of body that follow, below 1<<24
}

// AppendHeader appends h to b.
func AppendHeader(b []byte, h Header) []byte {
	return append(b, byte(h.Type), byte(h.Length>>16), byte(h.Length>>8), byte(h.Length))
}

// ParseHeader reads a header and checks it: the type is known or skippable and
// the length within that type's bound.
func ParseHeader(b [HeaderSize]byte) (Header, error) {
	h := Header{Type(b[0]), int(b[1])<<16 | int(b[2])<<8 | int(b[3])}
	k, known := kinds[h.Type]
	switch {
	case known && h.Length > k.max:
		return h, Violation("%s of %d bytes, at most %d", h.Type, h.Length, k.max)
	case !known && !h.Type.Skippable():
		return h, Violation("unknown %s", h.Type)
	case !known && h.Length > MaxFrame-HeaderSize:
		return h, Violation("%s of %d bytes, at most %d", h.Type, h.Length, MaxFrame-HeaderSize)
	}
	return h, nil
}

// Append appends m as one frame to b. It panics if m's body is larger than the
// protocol allows: that is a bug of the caller, which knows its bounds.
func Append(b []byte, m Message) []byte {
	start := len(b)
	b = append(b, byte(m.Type()), 0, 0, 0)
	b = m.appendBody(b)
	n := len(b) - start - HeaderSize
	if n > kinds[m.Type()].max {
		panic(fmt.Sprintf("wire: %s body of %d bytes", m.Type(), n))
	}
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

// AppendDataHeader appends the part of a DATA frame that stands before its n
// bytes.
func AppendDataHeader(b []byte, offset uint64, n int) []byte {
	b = AppendHeader(b, Header{TypeData, dataPrefix + n})
	return appendU64(b, offset)
}

// DataHeaderSize is the size of what AppendDataHeader appends.
const DataHeaderSize = HeaderSize + dataPrefix

// Decode returns the message of type t with the given body. Byte slices in the
// message alias body. A skippable type that is not known is (nil, nil).
func Decode(t Type, body []byte) (Message, error) {
	k, known := kinds[t]
	switch {
	case !known && t.Skippable():
		return nil, nil
	case !known:
		return nil, Violation("unknown %s", t)
	case len(body) > k.max:
		return nil, Violation("%s of %d bytes, at most %d", t, len(body), k.max)
	}
	m := k.new()
	f := &fields{b: body}
	m.parseBody(f)
	if f.err == nil && len(f.b) > 0 && t != TypeHello {
		f.fail("%d bytes too many", len(f.b))
	}
	if f.err != nil {
		return nil, Violation("%s: %v", t, f.err)
	}
	return m, nil
}

// Read reads one message from r, skipping unknown skippable ones. It reads
// exactly the frame and allocates no more than the type's bound. io.EOF means
// the end before a frame began, io.ErrUnexpectedEOF one inside.
func Read(r io.Reader) (Message, error) {
	for {
		h, err := ReadHeader(r)
		if err != nil {
			return nil, err
		}
		m, err := ReadBody(r, h)
		if m != nil || err != nil {
			return m, err
		}
	}
}

// ReadHandshake is Read before the peer is authenticated: whatever is no message
// of the handshake is refused by its header alone, so that a stranger costs no
// more than MaxHandshake bytes.
func ReadHandshake(r io.Reader) (Message, error) {
	for {
		h, err := ReadHeader(r)
		if err != nil {
			return nil, err
		}
		if !h.Type.Skippable() && h.Type >= TypeBeat {
			return nil, Violation("unexpected %s", h.Type)
		}
		if h.Length > MaxHandshake {
			return nil, Violation("%s of %d bytes, at most %d", h.Type, h.Length, MaxHandshake)
		}
		m, err := ReadBody(r, h)
		if m != nil || err != nil {
			return m, err
		}
	}
}

// ReadHeader reads and checks one frame's header. Errors are as for Read.
func ReadHeader(r io.Reader) (Header, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, err
	}
	return ParseHeader(b)
}

// ReadBody reads the body that h announces. It is (nil, nil) for a skippable
// type that is not known.
func ReadBody(r io.Reader, h Header) (Message, error) {
	if _, known := kinds[h.Type]; !known {
		if _, err := io.CopyN(io.Discard, r, int64(h.Length)); err != nil {
			return nil, inside(err)
		}
		return nil, nil
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, inside(err)
	}
	return Decode(h.Type, body)
}

// inside turns the end of the stream within a frame into the error it is.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadDataPrefix reads the start of a DATA frame's body of the given length: the
// offset. It returns how many data bytes follow.
func ReadDataPrefix(r io.Reader, length int) (offset uint64, n int, err error) {
	if length <= dataPrefix {
		return 0, 0, Violation("DATA of %d bytes", length)
	}
	var b [dataPrefix]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, inside(err)
	}
	return binary.BigEndian.Uint64(b[:]), length - dataPrefix, nil
}
