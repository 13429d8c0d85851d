package link

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// fuzzStreams is how many streams the peer of a fuzzed link may have open.
const fuzzStreams = 8

// FuzzFrames lets a hostile peer say whatever it likes, frames and what looks like them,
// cut anywhere, while the carriers that it opens are read, written and closed. Whatever
// happens:
//
//   - nothing panics, Run returns once the connection ends, and so does whoever reads or
//     writes
//   - there are no more carriers than the peer may have, and no more is unread than
//     maxUnread
//   - what is counted as unread is what waits to be read
func FuzzFrames(f *testing.F) {
	for i := range 100 {
		program := make([]byte, 20+10*i)
		rand.NewChaCha8([32]byte{byte(i)}).Read(program)
		f.Add(program, i%2 == 0)
	}
	f.Fuzz(fuzzFrames)
}

func fuzzFrames(t *testing.T, program []byte, client bool) {
	near, far := net.Pipe()
	cfg := quiet
	cfg.MaxStreams, cfg.Window = fuzzStreams, muxWindow
	var users sync.WaitGroup
	use := func(c io.ReadWriteCloser) {
		users.Go(func() {
			defer c.Close()
			b := make([]byte, 1000)
			for {
				n, err := c.Read(b)
				if err != nil || n > 0 && b[0] == 0xff {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
	cfg.Accepted = use
	end := Server
	if client {
		end = Client
	}
	m := NewMeter(near)
	l, err := end(m, m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var lost *LostError
	over := make(chan struct{})
	go func() {
		defer close(over)
		errors.As(l.Run(t.Context()), &lost)
	}()
	users.Go(func() { _, _ = io.Copy(io.Discard, far) })
	for range 3 * fuzzStreams { // at the proxy's end, which waits for the peer
		if client {
			users.Go(func() {
				if c, err := l.Open(t.Context()); err == nil {
					use(c)
				}
			})
		}
	}
	if !client {
		_, _ = far.Write(controlStream)
	}
	for len(program) > 0 {
		var frames []byte
		if frames, program = hostileFrame(program); len(frames) == 0 {
			continue
		}
		if _, err := far.Write(frames); err != nil {
			break
		}
		if n := l.open(); !client && n > fuzzStreams+1 {
			t.Errorf("%d carriers", n)
		}
		if n := held(&l.unread); n < 0 || n > maxUnread {
			t.Errorf("%d bytes unread", n)
		}
	}
	far.Close()
	ends(t, "Run", over)
	used := make(chan struct{})
	go func() {
		defer close(used)
		users.Wait()
	}()
	ends(t, "who uses a carrier", used)
	if lost == nil {
		t.Error("not a LostError")
	}
	for _, c := range l.carriers { // that nobody had accepted
		c.in.discard(net.ErrClosed)
	}
	if n := held(&l.unread); n != 0 {
		t.Errorf("%d bytes are counted as unread, and nobody will read them", n)
	}
}

// ends fails the test if done is not closed.
func ends(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s never ends", what)
	}
}

// hostileFrame makes something to say of the beginning of a program, and returns the rest.
func hostileFrame(program []byte) (frame, rest []byte) {
	if len(program) < 5 {
		return program, nil
	}
	op, flags, stream, size := program[0], uint16(program[1]), uint32(program[2]), uint32(program[3])<<8|uint32(program[4])
	rest = program[5:]
	if op%8 != 7 { // mostly what a peer would say
		stream %= 2*fuzzStreams + 6
		if flags >= 128 {
			flags = 0
		}
		flags %= 16
	}
	switch op % 8 {
	case 0, 1, 2: // a small body out of the program
		n := min(int(size%300), len(rest))
		return muxData(flags, stream, string(rest[:n])), rest[n:]
	case 3: // a large one
		return muxData(flags, stream, string(make([]byte, min(size, maxChunk)))), rest
	case 4:
		return muxSignal(flags, stream), rest
	case 5:
		return muxFrame(muxTypeWindow, flags, stream, size, ""), rest
	case 6: // opened, with something in it
		n := min(int(size%50), len(rest))
		return muxData(flags&^muxRST|muxSYN, stream|1, string(rest[:n])), rest[n:]
	}
	switch op / 8 % 8 {
	case 0:
		return muxFrame(byte(flags%5), flags, stream, math.MaxUint32-size, ""), rest
	case 1:
		return muxFrame(muxGoAway, flags, stream, size%3, ""), rest
	case 2: // anything at all
		return rest, nil
	}
	return muxFrame(muxTypeWindow, 0, stream%30, math.MaxUint32-muxWindow, ""), rest
}
