package link

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// muxGoAway is yamux's go away, which this end never sends of itself.
const muxGoAway = 3

// muxFrame is any frame of yamux's, as a peer might send it.
func muxFrame(kind uint8, flags uint16, stream uint32, length uint32, body string) []byte {
	b := append([]byte{0, kind}, byte(flags>>8), byte(flags))
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, body...)
}

// muxData is a data frame.
func muxData(flags uint16, stream uint32, body string) []byte {
	return muxFrame(muxTypeData, flags, stream, uint32(len(body)), body)
}

// muxSignal is a frame that says flags of a stream, and nothing else.
func muxSignal(flags uint16, stream uint32) []byte {
	return muxFrame(muxTypeWindow, flags, stream, 0, "")
}

// controlStream opens the control stream: the first frame of a proxy.
var controlStream = muxSignal(muxSYN, 1)

// lone is one end of a link, and in place of the other one a test that sends what it
// likes.
type lone struct {
	*Link

	peer *simnet.Conn
	runs sync.WaitGroup
	lost *LostError // once runs is over
}

// newLone is a relay's end unless client.
func newLone(t *testing.T, line simnet.Line, cfg Config, client bool) *lone {
	t.Helper()
	a, b := simnet.Pipe(line)
	m := NewMeter(a)
	end := Server
	if client {
		end = Client
	}
	l, err := end(m, m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	one := &lone{Link: l, peer: b}
	one.runs.Go(func() { errors.As(l.Run(t.Context()), &one.lost) })
	return one
}

// says lets the peer say frames, and the link take them.
func (o *lone) says(frames ...[]byte) {
	_, _ = o.peer.Write(slices.Concat(frames...)) // fails once the link has ended
	synctest.Wait()
}

// close ends the link, and returns why it has ended.
func (o *lone) close() *LostError {
	o.peer.Thaw()
	o.peer.Close()
	o.runs.Wait()
	return o.lost
}

// open returns how many carriers there are, the control stream's among them.
func (l *Link) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.carriers)
}

// accept1 returns the next carrier.
func (o *lone) accept1(t *testing.T) *carrier {
	t.Helper()
	c, err := o.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.(*carrier)
}

// plainYamux is yamux as others use it: windows of 256 KiB.
func plainYamux() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false // pings are a violation
	cfg.LogOutput = io.Discard
	return cfg
}

// plain is a link's end whose peer is plain yamux, with a stream between them.
func plain(t *testing.T, cfg Config, client bool) (o *lone, ours io.ReadWriteCloser, mux *yamux.Session, theirs net.Conn) {
	t.Helper()
	// yamux holds a mutex while a frame's body arrives, and virtual time stands still for
	// whoever waits for one: so the line takes no time.
	o = newLone(t, simnet.Line{}, cfg, client)
	var err error
	if client {
		if mux, err = yamux.Server(o.peer, plainYamux()); err != nil {
			t.Fatal(err)
		}
		if _, err := mux.AcceptStream(); err != nil {
			t.Fatal(err)
		}
		if ours, err = o.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if theirs, err = mux.AcceptStream(); err != nil {
			t.Fatal(err)
		}
		return o, ours, mux, theirs
	}
	if mux, err = yamux.Client(o.peer, plainYamux()); err != nil {
		t.Fatal(err)
	}
	if _, err := mux.OpenStream(); err != nil {
		t.Fatal(err)
	}
	if theirs, err = mux.OpenStream(); err != nil {
		t.Fatal(err)
	}
	return o, o.accept1(t), mux, theirs
}

// slowly reads all of r, and rests often.
func slowly(r io.Reader) ([]byte, error) {
	var got []byte
	b := make([]byte, 50_000)
	for {
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return got, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
