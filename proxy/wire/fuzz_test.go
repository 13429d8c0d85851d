package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzDecode: a body is either refused as a violation or a message that is
// written as the same bytes. HELLO may hold more than this version knows, which
// is not written again.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		if len(v.bytes) >= HeaderSize {
			f.Add(v.bytes[0], v.bytes[HeaderSize:])
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		before := bytes.Clone(body)
		m, err := Decode(Type(typ), body)
		k, known := kinds[Type(typ)]
		switch {
		case !bytes.Equal(before, body):
			t.Fatal("the body was changed")
		case !known && Type(typ).Skippable():
			if m != nil || err != nil {
				t.Fatalf("unknown type is %v, %v", m, err)
			}
			return
		case err != nil:
			if m != nil || !errors.Is(err, ErrProtocol) {
				t.Fatalf("%v, %v", m, err)
			}
			return
		case !known || len(body) > k.max:
			t.Fatalf("%s of %d bytes is %v", Type(typ), len(body), m)
		case m.Type() != Type(typ):
			t.Fatalf("%s was read as %s", Type(typ), m.Type())
		}
		again := Append(nil, m)
		if h, err := ParseHeader([HeaderSize]byte(again)); err != nil || h.Length != len(again)-HeaderSize {
			t.Fatalf("header %v, %v of %d bytes", h, err, len(again))
		}
		if Type(typ) == TypeHello {
			body = body[:min(len(body), len(again)-HeaderSize)]
		}
		if !bytes.Equal(again[HeaderSize:], body) {
			t.Fatalf("%x was read as %s, which is written as %x", body, render(m), again[HeaderSize:])
		}
	})
}

// FuzzRead: a stream is the same messages wherever it is split, unknown
// skippable frames in it change nothing, and no more is read than was announced
// and allowed.
func FuzzRead(f *testing.F) {
	var whole []byte
	for _, v := range vectors(f) {
		f.Add(v.bytes, uint16(3))
		if v.err == nil && len(v.bytes) < 256 {
			whole = append(whole, v.bytes...)
		}
	}
	f.Add(whole, uint16(100))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		want, end := readAll(t, bytes.NewReader(stream))

		at := int(cut) % (len(stream) + 1)
		got, err := readAll(t, io.MultiReader(bytes.NewReader(stream[:at]), bytes.NewReader(stream[at:])))
		same(t, "split in two", got, err, want, end)
		got, err = readAll(t, iotest.OneByteReader(bytes.NewReader(stream)))
		same(t, "byte by byte", got, err, want, end)
		got, err = readAll(t, iotest.DataErrReader(bytes.NewReader(stream)))
		same(t, "end with the data", got, err, want, end)

		unknown := 0x80 | Type(cut)
		if unknown == TypeTargetLeft { // the one of them that is known
			unknown++
		}
		var stuffed []byte
		for _, m := range want {
			stuffed = append(AppendHeader(stuffed, Header{unknown, int(cut) % 300}), make([]byte, int(cut)%300)...)
			stuffed = append(stuffed, m...)
		}
		got, err = readAll(t, bytes.NewReader(stuffed))
		same(t, "with unknown frames between", got, err, want, io.EOF)
	})
}

// readAll reads messages to the end or the first error and returns each as it is
// written.
func readAll(t *testing.T, r io.Reader) (frames [][]byte, err error) {
	t.Helper()
	for {
		m, err := Read(r)
		switch {
		case err == nil:
			frames = append(frames, Append(nil, m))
		case errors.Is(err, ErrProtocol), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return frames, err
		default:
			t.Fatalf("a reader without errors of its own: %v", err)
		}
	}
}

func same(t *testing.T, how string, got [][]byte, err error, want [][]byte, end error) {
	t.Helper()
	if err.Error() != end.Error() || len(got) != len(want) {
		t.Fatalf("%s: %d messages and %v, want %d and %v", how, len(got), err, len(want), end)
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: message %d is %x, want %x", how, i, got[i], want[i])
		}
	}
}
