package link

import (
	"encoding/binary"
	"math"
)

// yamux's frame header, its types and flags
// (github.com/hashicorp/yamux/blob/master/spec.md).
const (
	muxHeader = 12

	muxTypeData   = 0
	muxTypeWindow = 1
	muxTypePing   = 2

	muxSYN = 1 << 0
	muxACK = 1 << 1
	muxFIN = 1 << 2
	muxRST = 1 << 3

	// muxWindow is every stream's window at first, in bytes.
	muxWindow = 256 << 10
	// maxWindow is the most that a window is granted to, in bytes: yamux counts in 32 bits.
	maxWindow = math.MaxUint32
)

// header is the header of a frame.
type header [muxHeader]byte

func (h header) version() uint8 { return h[0] }
func (h header) kind() uint8    { return h[1] }
func (h header) flags() uint16  { return binary.BigEndian.Uint16(h[2:]) }
func (h header) stream() uint32 { return binary.BigEndian.Uint32(h[4:]) }
func (h header) length() uint32 { return binary.BigEndian.Uint32(h[8:]) }

// signal is a frame without data that says of the stream what flags say.
func (h header) signal(flags uint16) header {
	h[1] = muxTypeWindow
	binary.BigEndian.PutUint16(h[2:], flags)
	binary.BigEndian.PutUint32(h[8:], 0)
	return h
}

// appendHeader appends a header without flags to b.
func appendHeader(b []byte, kind uint8, stream uint32, length int) []byte {
	b = append(b, 0, kind, 0, 0)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}
