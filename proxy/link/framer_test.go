package link

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// interrupted is a connection on which a write lets another one go before, if it can.
type interrupted struct {
	io.Reader

	all    bytes.Buffer
	writes atomic.Int32
	other  chan struct{} // closed when that one has been tried and is through
	try    func()
}

func (c *interrupted) Write(p []byte) (int, error) {
	n, err := c.all.Write(p)
	if c.writes.Add(1) == 1 {
		go c.try()
		select {
		case <-c.other:
		case <-time.After(20 * time.Millisecond): // it waits, as it should
		}
	}
	return n, err
}

// TestAMessageDoesNotCutAFrame, though it goes past yamux.
func TestAMessageDoesNotCutAFrame(t *testing.T) {
	c := &interrupted{other: make(chan struct{})}
	f := &framer{
		conn: c, meter: NewMeter(nil), mute: new(atomic.Bool),
		leaving: func(int) {}, passed: func(int, int) {},
	}
	c.try = func() {
		if err := f.message(1, []byte("beat")); err != nil {
			t.Error(err)
		}
		close(c.other)
	}
	body := random(maxChunk)
	header := make([]byte, muxHeader)
	header[1] = muxTypeData
	binary.BigEndian.PutUint32(header[4:], 3)
	binary.BigEndian.PutUint32(header[8:], uint32(len(body)))
	for _, p := range [][]byte{header, body} {
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Errorf("wrote %d of %d: %v", n, len(p), err)
		}
	}
	<-c.other
	if got := c.all.Bytes(); !bytes.HasPrefix(got, slices.Concat(header, body)) || !bytes.HasSuffix(got, []byte("beat")) || len(got) != 2*muxHeader+len(body)+4 {
		t.Errorf("%d bytes were written, and the frame is not one piece", len(got))
	}
}
