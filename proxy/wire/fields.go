package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

func appendU16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// appendMillis appends a duration in whole milliseconds, rounded down, never
// negative.
func appendMillis(b []byte, d time.Duration) []byte {
	return appendU64(b, uint64(max(0, d.Milliseconds())))
}

// appendText appends a string behind one byte of length, cut to MaxText.
func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), MaxText)]
	return append(append(b, byte(len(s))), s...)
}

// appendBlob appends bytes behind two bytes of length.
func appendBlob(b, v []byte) []byte {
	if len(v) > math.MaxUint16 {
		panic(fmt.Sprintf("wire: blob of %d bytes", len(v)))
	}
	return append(appendU16(b, uint16(len(v))), v...)
}

// fields reads a body from its start. After the first failure every read
// returns zero and err tells what was wrong.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

func (f *fields) take(n int, what string) []byte {
	if f.err != nil {
		return nil
	}
	if len(f.b) < n {
		f.fail("ends within %s", what)
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) u8(what string) uint8 {
	if v := f.take(1, what); v != nil {
		return v[0]
	}
	return 0
}

func (f *fields) u16(what string) uint16 {
	if v := f.take(2, what); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (f *fields) u64(what string) uint64 {
	if v := f.take(8, what); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (f *fields) millis(what string) time.Duration {
	v := f.u64(what)
	if v > math.MaxInt64/uint64(time.Millisecond) {
		f.fail("%s of %d ms is too long", what, v)
		return 0
	}
	return time.Duration(v) * time.Millisecond
}

func (f *fields) text(what string) string { return string(f.take(int(f.u8(what)), what)) }

func (f *fields) blob(what string) []byte { return f.take(int(f.u16(what)), what) }

func (f *fields) rest() []byte { return f.take(len(f.b), "rest") }

func (f *fields) fill(dst []byte, what string) { copy(dst, f.take(len(dst), what)) }
