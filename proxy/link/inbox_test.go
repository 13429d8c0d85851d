package link

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// put puts b into i as a frame's body that has arrived.
func put(i *inbox, b []byte) {
	p := newParcel(len(b))
	copy(p.b, b)
	i.unread.arrived(p.cost)
	i.put(p)
}

// held is how many bytes are counted as unread.
func held(u *unread) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}

func TestInboxGivesWhatItWasGiven(t *testing.T) {
	bytesOf := rand.NewChaCha8([32]byte{1})
	r := rand.New(bytesOf)
	var u unread
	i := inbox{unread: &u}
	var in, out []byte
	for range 5_000 {
		if len(in)-len(out) < 1<<20 && r.IntN(2) == 0 {
			b := make([]byte, 1+r.IntN([]int{1, 100, smallParcel + 1, maxChunk}[r.IntN(4)]))
			bytesOf.Read(b)
			put(&i, b)
			in = append(in, b...)
		} else if len(out) < len(in) {
			b := make([]byte, 1+r.IntN(maxChunk))
			n, err := i.read(b)
			if n == 0 || err != nil {
				t.Fatalf("read %d, %v", n, err)
			}
			out = append(out, b[:n]...)
		}
	}
	i.end(io.EOF)
	for {
		b := make([]byte, 1000)
		n, err := i.read(b)
		if err != nil {
			if n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%d, %v", n, err)
			}
			break
		}
		out = append(out, b[:n]...)
	}
	if !bytes.Equal(in, out) {
		t.Errorf("%d bytes in, %d out, or others", len(in), len(out))
	}
	if n := held(&u); n != 0 {
		t.Errorf("%d bytes still counted as unread", n)
	}
}

// TestInboxThatIsNeverEmptyDoesNotGrow: a reader that is always a little behind must not
// cost memory for each frame that it has read.
func TestInboxThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	i := inbox{unread: new(unread)}
	const behind = 10
	for k := range behind {
		put(&i, []byte{byte(k)})
	}
	for k := behind; k < 100_000; k++ {
		put(&i, []byte{byte(k)})
		var b [1]byte
		if n, err := i.read(b[:]); n != 1 || err != nil || b[0] != byte(k-behind) {
			t.Fatalf("read %d, %v, byte %d", n, err, b[0])
		}
	}
	if n := cap(i.queue); n > 10*behind {
		t.Errorf("room for %d frames, with %d in it", n, behind)
	}
}

func TestInboxKeepsLittleRoomWhenEmpty(t *testing.T) {
	i := inbox{unread: new(unread)}
	for range 1000 {
		put(&i, []byte("x"))
	}
	for range 1000 {
		if _, err := i.read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := cap(i.queue); n > fewParcels {
		t.Errorf("room for %d frames when empty", n)
	}
}

func TestInboxThatEndsCountsNothing(t *testing.T) {
	for name, end := range map[string]func(i *inbox){
		"discarded":           func(i *inbox) { i.discard(net.ErrClosed) },
		"ended and discarded": func(i *inbox) { i.end(io.EOF); i.discard(net.ErrClosed) },
	} {
		var u unread
		i := inbox{unread: &u}
		for range 10 {
			put(&i, make([]byte, 10))
			put(&i, make([]byte, maxChunk))
		}
		if _, err := i.read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		end(&i)
		for range 10 { // still on their way
			put(&i, make([]byte, 10))
			put(&i, make([]byte, maxChunk))
		}
		if n := held(&u); n != 0 {
			t.Errorf("%s: %d bytes still counted as unread", name, n)
		}
		if n, err := i.read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// TestParcelCostIsNotLessThanItsMemory: what is counted is what bounds memory.
func TestParcelCostIsNotLessThanItsMemory(t *testing.T) {
	for _, n := range []int{1, 2, 100, smallParcel, smallParcel + 1, maxChunk} {
		p := newParcel(n)
		if len(p.b) != n {
			t.Errorf("%d bytes: room for %d", n, len(p.b))
		}
		room := cap(p.b)
		if p.pool != nil {
			room = cap(*p.pool)
		}
		if p.cost < room {
			t.Errorf("%d bytes: cost %d, memory %d", n, p.cost, room)
		}
		p.free()
		if p.b != nil || p.pool != nil {
			t.Errorf("%d bytes: still there after free", n)
		}
	}
}
