package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestKindsMakeTheirOwnType(t *testing.T) {
	for typ, k := range kinds {
		if got := k.new().Type(); got != typ {
			t.Errorf("%s makes a %s", typ, got)
		}
		if typ.Skippable() && typ != TypeTargetLeft { // which is only a hint
			t.Errorf("%s has its high bit set: an older reader would skip it", typ)
		}
		if typ.String() != k.name {
			t.Errorf("%s is called %s", k.name, typ)
		}
	}
	if got := Type(0x6f).String(); got != "type 0x6f" {
		t.Errorf("an unknown type is called %q", got)
	}
}

func TestSizesFitYamux(t *testing.T) {
	frame := AppendDataHeader(nil, 0, MaxData)
	if len(frame) != DataHeaderSize {
		t.Errorf("header of %d bytes, DataHeaderSize is %d", len(frame), DataHeaderSize)
	}
	if n := 12 + len(frame) + MaxData; n != 64<<10 {
		t.Errorf("the largest DATA frame and yamux's header are %d bytes", n)
	}
	if whole := Append(nil, &Data{Bytes: make([]byte, MaxData)}); !bytes.Equal(whole[:DataHeaderSize], frame) {
		t.Errorf("AppendDataHeader %x, Append %x", frame, whole[:DataHeaderSize])
	}
}

// tracked counts what is read from it.
type tracked struct {
	io.Reader
	n int
}

func (r *tracked) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += n
	return n, err
}

// allocated is how many bytes were ever taken from the heap.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestOversizeIsRefusedByTheHeaderAlone: nothing is read, nor memory taken, for a
// body that is too large.
func TestOversizeIsRefusedByTheHeaderAlone(t *testing.T) {
	zeros := make([]byte, 1<<20)
	try := func(h Header) {
		r := &tracked{Reader: bytes.NewReader(append(AppendHeader(nil, h), zeros...))}
		before := allocated()
		m, err := Read(r)
		if n := allocated() - before; n > 64<<10 {
			t.Errorf("%s of %d bytes: %d bytes of memory were taken", h.Type, h.Length, n)
		}
		if m != nil || !errors.Is(err, ErrProtocol) {
			t.Errorf("%s of %d bytes: %v, %v", h.Type, h.Length, m, err)
		}
		if r.n != HeaderSize {
			t.Errorf("%s of %d bytes: %d bytes were read", h.Type, h.Length, r.n)
		}
		if m, err := Decode(h.Type, zeros[:min(h.Length, len(zeros))]); m != nil || !errors.Is(err, ErrProtocol) && !h.Type.Skippable() {
			t.Errorf("decode %s of %d bytes: %v, %v", h.Type, h.Length, m, err)
		}
	}
	for typ, k := range kinds {
		try(Header{typ, k.max + 1})
		try(Header{typ, 1<<24 - 1})
	}
	try(Header{0x99, MaxFrame - HeaderSize + 1})
	try(Header{0x99, 1<<24 - 1})
}

// TestAStrangerIsHeardWithinHisBounds: before anybody is authenticated, what is no
// message of the handshake is refused by its header, as is what is too long for one.
func TestAStrangerIsHeardWithinHisBounds(t *testing.T) {
	zeros := make([]byte, 1<<17)
	for typ := range 1 << 8 {
		for _, length := range []int{0, 1, MaxControl, MaxHandshake, MaxHandshake + 1, MaxFrame - HeaderSize} {
			h := Header{Type(typ), length}
			r := &tracked{Reader: bytes.NewReader(append(AppendHeader(nil, h), zeros...))}
			m, err := ReadHandshake(r)
			late := h.Type >= TypeBeat && !h.Type.Skippable()
			switch {
			case (late || length > MaxHandshake) && r.n != HeaderSize:
				t.Errorf("%s of %d bytes: %d bytes were read", h.Type, length, r.n)
			case (late || length > MaxHandshake) && !errors.Is(err, ErrProtocol), m != nil && m.Type() >= TypeBeat:
				t.Errorf("%s of %d bytes: %v, %v", h.Type, length, m, err)
			}
		}
	}
}

func TestHeadersSurvive(t *testing.T) {
	for _, h := range []Header{{TypeBeat, 0}, {TypeBeat, 255}, {TypeData, 256}, {TypeData, 65520}, {0x80, 65532}, {0xff, 1}} {
		b := AppendHeader([]byte("before"), h)
		got, err := ParseHeader([HeaderSize]byte(b[6:]))
		if got != h || err != nil {
			t.Errorf("%v: %v, %v", h, got, err)
		}
	}
}

// TestReadTakesExactlyTheFrame and nothing behind it.
func TestReadTakesExactlyTheFrame(t *testing.T) {
	b := Append(nil, &Beat{Seq: 1})
	b = append(AppendHeader(b, Header{0xaa, 5}), "skip!"...)
	b = Append(b, &BeatAck{Seq: 2})
	b = append(b, "behind"...)
	r := bytes.NewReader(b)
	for _, want := range []Message{&Beat{Seq: 1}, &BeatAck{Seq: 2}} {
		if m, err := Read(r); err != nil || render(m) != render(want) {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if rest, _ := io.ReadAll(r); string(rest) != "behind" {
		t.Errorf("left over: %q", rest)
	}
}

func TestErrorsOfTheConnectionAreNoViolations(t *testing.T) {
	broken := errors.New("cable cut")
	whole := Append(nil, &Open{Generation: 1, Target: Target{"h", 1}, Early: []byte("early")})
	whole = append(AppendHeader(whole, Header{0x80, 3}), "new"...)
	for n := range whole {
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		var err error
		for err == nil {
			_, err = Read(r)
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrProtocol) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestReadDataPrefix(t *testing.T) {
	for _, length := range []int{0, 1, dataPrefix - 1, dataPrefix} {
		if _, _, err := ReadDataPrefix(strings.NewReader("12345678"), length); !errors.Is(err, ErrProtocol) {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
	if _, _, err := ReadDataPrefix(strings.NewReader("1234"), 9); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	offset, n, err := ReadDataPrefix(bytes.NewReader([]byte{0, 0, 0, 0, 0, 0, 1, 2, 'x'}), 9)
	if offset != 258 || n != 1 || err != nil {
		t.Errorf("%d, %d, %v", offset, n, err)
	}
}

func TestDurationsAreWholeMillisecondsAndNeverNegative(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-time.Hour:                              0,
		0:                                       0,
		time.Millisecond - 1:                    0,
		1999 * time.Microsecond:                 time.Millisecond,
		math.MaxInt64:                           time.Duration(math.MaxInt64).Truncate(time.Millisecond),
		24*time.Hour + 250*time.Millisecond + 1: 24*time.Hour + 250*time.Millisecond,
	} {
		m, err := Decode(TypeSlowDown, Append(nil, &SlowDown{Interval: d})[HeaderSize:])
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(*SlowDown).Interval; got != want {
			t.Errorf("%v: %v, want %v", d, got, want)
		}
	}
}

func TestTextsAreCut(t *testing.T) {
	b := Append(nil, &Reset{Code: CodeAborted, Message: strings.Repeat("a", MaxText) + "tail"})
	m, err := Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*Reset).Message; got != strings.Repeat("a", MaxText) {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// TestCallersBugsPanic: a body above its bound would be refused by every peer.
func TestCallersBugsPanic(t *testing.T) {
	for name, m := range map[string]Message{
		"data": &Data{Bytes: make([]byte, MaxData+1)},
		"keys": &Offer{Keys: [][]byte{make([]byte, MaxHandshake)}},
		"blob": &Proof{Signature: make([]byte, 1<<16)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nothing happened", name)
				}
			}()
			Append(nil, m)
		}()
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ amin, amax, bmin, bmax, want uint16 }{
		{1, 1, 1, 1, 1},
		{1, 3, 2, 5, 3},
		{1, 5, 1, 3, 3},
		{1, 1, 2, 3, 0},
		{4, 5, 2, 3, 0},
	} {
		a, b := &Hello{MinVersion: c.amin, MaxVersion: c.amax}, &Hello{MinVersion: c.bmin, MaxVersion: c.bmax}
		if got := a.Negotiate(b); got != c.want || b.Negotiate(a) != got {
			t.Errorf("%+v: %d and %d", c, got, b.Negotiate(a))
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	s := Secret{'A', 'B', 'C'}
	for _, m := range []any{s, Welcome{Secret: s}, &OK{Secret: s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(verb, m); strings.Contains(text, "65") || strings.Contains(text, "41") || strings.Contains(text, "ABC") {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}

func TestTargetsAreWrittenAsAddresses(t *testing.T) {
	for want, target := range map[string]Target{
		"db.internal:22":    {"db.internal", 22},
		"[2001:db8::1]:443": {"2001:db8::1", 443},
	} {
		if got := target.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCodesHaveNames(t *testing.T) {
	if got := CodeNoSuchHost.String(); got != "no such host" {
		t.Errorf("%q", got)
	}
	if got := Code(4660).String(); got != "code 4660" {
		t.Errorf("%q", got)
	}
}

func TestUnexpectedIsAViolation(t *testing.T) {
	if err := Unexpected(&Beat{}); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "BEAT") {
		t.Errorf("%v", err)
	}
}
