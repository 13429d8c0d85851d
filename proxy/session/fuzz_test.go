package session

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// The fuzz tests let a hostile peer send whatever it likes over as many carriers
// as it likes, while the application reads, writes and closes. Whatever happens:
//
//   - nothing panics, and Attach and Answer return once their carriers are closed
//   - memory stays within the buffer
//   - what the application reads is what the peer sent, in order, once (I1)
//   - what the peer is sent is what the application wrote, within its credit, and
//     what it is told to be stored was sent (I2)

const (
	fuzzBuffer = 4096 // bytes; small, so that it fills
	fuzzOps    = 200  // operations of one program at most
)

// FuzzHostileProxy feeds the relay's end of a session.
func FuzzHostileProxy(f *testing.F) { fuzzHostile(f, false) }

// FuzzHostileRelay feeds the proxy's end of a session.
func FuzzHostileRelay(f *testing.F) { fuzzHostile(f, true) }

func fuzzHostile(f *testing.F, proxy bool) {
	f.Helper()
	for i := range 150 {
		program := make([]byte, 20+5*i)
		rand.NewChaCha8([32]byte{byte(i)}).Read(program)
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) {
			h := &hostile{t: t, program: program, proxy: proxy}
			h.run()
		})
	})
}

// hostile is the peer of a session, its application and its network.
type hostile struct {
	t       *testing.T
	program []byte // what to do, a byte at a time
	proxy   bool   // the session is a proxy's end

	s       *Session
	ctx     context.Context
	wg      sync.WaitGroup // Attach or Answer, and readers of carriers
	last    *tapped        // the newest carrier
	all     []*tapped
	id      wire.ID
	read    uint64 // bytes the application has read
	written uint64 // and written
	newest  uint64 // the session's generation, as last seen

	mu     sync.Mutex      // guards all below
	heard  uint64          // the next byte not heard from the session yet
	finned bool            // heard that too
	sent   uint64          // one past the last byte sent to the session
	fins   map[uint64]bool // where a FIN was sent
	limit  uint64          // the largest ever told
	wild   bool            // bytes were sent that this struct knows nothing of
}

// tapped is a carrier: the session's end of a pipe, and the peer's.
type tapped struct {
	net.Conn // the session's
	peer     net.Conn
	as       io.ReadWriteCloser // what the session was given
	closed   atomic.Bool        // by the session
}

// Close remembers.
func (c *tapped) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// pattern is the byte at an offset: the peer's, or the application's.
func pattern(peer bool, offset uint64) byte {
	b := byte(offset*31 + offset>>8)
	if peer {
		return ^b
	}
	return b
}

func patterns(peer bool, offset uint64, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = pattern(peer, offset+uint64(i))
	}
	return p
}

// next takes a byte of the program; zeros follow its end.
func (h *hostile) next() byte {
	if len(h.program) == 0 {
		return 0
	}
	b := h.program[0]
	h.program = h.program[1:]
	return b
}

// around is most often n or less, sometimes more, seldom at the edge of all
// numbers: most of what goes wrong between two ends is no violation.
func (h *hostile) around(n uint64) uint64 {
	switch d := h.next(); {
	case d < 100:
		return n
	case d < 235:
		return n - min(n, 1<<(d%13))
	case d < 247:
		return n + 1<<(d%13)
	case d < 250:
		return n - uint64(d) // it may wrap
	case d < 253:
		return math.MaxUint64 - uint64(d-250)
	default:
		return n + 1<<uint(d-253+30)
	}
}

func (h *hostile) size(most int) int { return int(h.next()) * most / 255 }

func (h *hostile) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h.ctx = ctx
	h.fins = map[uint64]bool{}
	h.id = wire.ID{9}
	cfg := Config{Buffer: MinBuffer}
	if h.proxy {
		h.s = Open(cfg, target)
		h.id = h.s.ID()
		h.s.m.buffer = fuzzBuffer
		h.write(h.size(fuzzBuffer))
	}
	for range fuzzOps {
		if len(h.program) == 0 {
			break
		}
		h.step()
		synctest.Wait()
		h.check()
	}
	for _, c := range h.all {
		c.peer.Close()
	}
	h.wg.Wait() // a bubble that never gets here is a deadlock, and fails
	h.readOn(1 << 20)
	h.check()
	if h.s != nil {
		h.s.Abandon(errors.New("test over"))
		<-h.s.Done()
		if h.s.m.out.chunks != nil {
			h.t.Error("an ended session holds what it wanted to send")
		}
	}
}

// step does one thing.
func (h *hostile) step() {
	op := h.next()
	if h.last == nil {
		h.attach()
		return
	}
	h.mu.Lock()
	heard, sent := h.heard, h.sent
	if h.finned {
		heard++
	}
	h.mu.Unlock()
	switch op % 26 {
	case 0, 1, 2, 3: // the stream goes on
		h.data(sent, h.size(fuzzBuffer/2))
	case 4:
		h.data(h.around(sent), h.size(2*fuzzBuffer))
	case 5:
		if h.next() < 128 {
			sent = h.around(sent)
		}
		h.send(&wire.Fin{Offset: sent})
	case 6, 7, 8:
		h.send(&wire.Ack{Received: heard, Limit: heard + uint64(h.size(1<<16))})
	case 9:
		h.send(&wire.Ack{Received: h.around(heard), Limit: h.around(heard)})
	case 10:
		if h.next() < 128 {
			return
		}
		h.send([]wire.Message{
			&wire.Reset{Code: wire.CodeAborted, Message: "fuzz"}, &wire.ResetAck{}, &wire.Moved{Generation: 9}, &wire.OK{},
			&wire.Refused{}, &wire.Beat{Seq: 1}, &wire.Resume{Generation: 1}, &wire.Open{Generation: 1, Target: target},
		}[h.next()%8])
	case 11:
		n := h.size(300)
		h.put(append(wire.AppendHeader(nil, wire.Header{Type: 0x80 | wire.Type(h.next()), Length: n}), make([]byte, n)...))
	case 12:
		if h.next() < 200 {
			return
		}
		n := min(int(h.next()), len(h.program))
		h.mu.Lock()
		h.wild = true
		h.mu.Unlock()
		h.put(h.program[:n])
		h.program = h.program[n:]
	case 13, 14:
		h.readOn(h.size(fuzzBuffer))
	case 15, 16:
		h.write(h.size(2 * fuzzBuffer))
	case 17:
		time.Sleep(time.Duration(h.next()) * time.Second)
	case 18:
		time.Sleep(time.Duration(h.next()) * time.Millisecond)
	case 19, 20:
		h.attach()
	case 21:
		h.last.peer.Close()
	case 24, 25:
		h.stale(sent)
	case 22:
		h.s.CloseWrite()
	default:
		switch h.next() % 16 {
		case 0:
			h.s.Close()
		case 1:
			h.s.Abort(errors.New("fuzz"))
		case 2:
			h.s.Abandon(errors.New("fuzz"))
		}
	}
}

// data sends bytes of the peer's stream.
func (h *hostile) data(offset uint64, n int) {
	n = min(max(n, 1), wire.MaxData)
	h.send(&wire.Data{Offset: offset, Bytes: patterns(true, offset, n)})
}

// send sends a message and remembers what it promised.
func (h *hostile) send(m wire.Message) {
	h.mu.Lock()
	switch m := m.(type) {
	case *wire.Data:
		if end := m.Offset + uint64(len(m.Bytes)); m.Offset <= h.sent && end > m.Offset {
			h.sent = max(h.sent, end)
		}
	case *wire.Fin:
		h.fins[m.Offset] = true
	case *wire.Ack:
		h.limit = max(h.limit, m.Limit)
	}
	h.mu.Unlock()
	h.put(wire.Append(nil, m))
}

// put writes bytes to the newest carrier, unless nobody reads there.
func (h *hostile) put(p []byte) {
	h.last.peer.SetWriteDeadline(time.Now().Add(time.Second))
	h.last.peer.Write(p)
}

// stale says something on a carrier that is not the newest any more: it must
// change nothing (I4).
func (h *hostile) stale(sent uint64) {
	old := h.all[int(h.next())%len(h.all)]
	state := func() (uint64, uint64, uint64, bool) {
		h.s.mu.Lock()
		defer h.s.mu.Unlock()
		return h.s.m.received, h.s.m.una, h.s.m.outLimit, h.s.newest == nil || h.s.newest.ReadWriteCloser == old.as
	}
	received, una, limit, newest := state()
	if newest {
		return
	}
	frames := wire.Append(nil, &wire.Data{Offset: sent, Bytes: patterns(true, sent, 10)})
	frames = wire.Append(frames, &wire.Ack{Received: una, Limit: limit + 10})
	h.mu.Lock()
	h.sent = max(h.sent, sent+10)
	h.mu.Unlock()
	old.peer.SetWriteDeadline(time.Now().Add(time.Millisecond))
	old.peer.Write(frames)
	synctest.Wait()
	if r, u, l, _ := state(); r != received || u != una || l != limit {
		h.t.Errorf("a frame of an older carrier changed the session")
	}
	h.mu.Lock()
	h.sent = sent
	h.mu.Unlock()
}

// attach gives the session another carrier.
func (h *hostile) attach() {
	if len(h.all) > 20 {
		return
	}
	its := new(tapped)
	its.Conn, its.peer = net.Pipe()
	its.as = its
	h.last = its
	h.all = append(h.all, its)
	h.mu.Lock()
	heard := h.heard
	h.limit = max(h.limit, heard+1000)
	h.mu.Unlock()

	if h.proxy {
		h.wg.Go(func() { h.returned(its, h.s.Attach(h.ctx, its, wire.ID{})) })
		h.listen(its.peer)
		synctest.Wait() // the hello may hold early data
		h.mu.Lock()
		heard = h.heard
		h.mu.Unlock()
		switch reply := h.next(); {
		case reply < 200:
			h.hello(&wire.OK{Received: heard, Limit: heard + 1000}, heard+1000)
		case reply < 230:
			limit := h.around(heard)
			h.hello(&wire.OK{Received: h.around(heard), Limit: limit}, limit)
		case reply < 240:
			h.send(&wire.Refused{Code: wire.CodeUnknown})
		}
		return
	}

	r := &Request{c: its}
	if h.s == nil || h.next() > 220 {
		early := h.size(fuzzBuffer / 4)
		r.Open = &wire.Open{ID: h.id, Generation: 1 + uint64(h.next()%4), Limit: heard + 1000, Target: target, Early: patterns(true, 0, early)}
		if h.s == nil {
			h.s = Accept(Config{}, r.Open)
			h.s.m.buffer = fuzzBuffer
			h.sent = uint64(early)
		}
	} else {
		r.Resume = &wire.Resume{ID: h.id, Generation: h.around(h.newest + 1), Received: heard, Limit: heard + 1000}
		if h.next() > 100 {
			r.Resume.Received, r.Resume.Limit = h.around(heard), h.around(heard)
			h.mu.Lock()
			h.limit = max(h.limit, r.Resume.Limit)
			h.mu.Unlock()
		}
	}
	if h.next() < 200 { // as relays do; else the carrier is taken as it is
		r.Watch(func() {})
		its.as = r.c
	}
	if h.next() < 230 { // else the peer reads the answer, and no more
		h.listen(its.peer)
	} else {
		h.wg.Go(func() { wire.Read(its.peer) })
	}
	h.wg.Go(func() { h.returned(its, h.s.Answer(h.ctx, r, wire.Secret{1})) })
}

func (h *hostile) hello(m wire.Message, limit uint64) {
	h.mu.Lock()
	h.limit = max(h.limit, limit)
	h.mu.Unlock()
	h.send(m)
}

// returned judges what Attach or Answer returned.
func (h *hostile) returned(c *tapped, err error) {
	if !c.closed.Load() {
		h.t.Error("the carrier was not closed")
	}
	if errors.Is(err, wire.ErrProtocol) && h.s.Err() == nil {
		h.t.Errorf("the session goes on after %v", err)
	}
}

// listen reads what the session says over a carrier, to its end.
func (h *hostile) listen(c net.Conn) {
	h.wg.Go(func() {
		for {
			m, err := wire.Read(c)
			if errors.Is(err, wire.ErrProtocol) {
				h.t.Errorf("the session breaks the protocol: %v", err)
			}
			if err != nil {
				return
			}
			h.hear(m)
		}
	})
}

// hear judges one frame of the session's.
func (h *hostile) hear(m wire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := m.(type) {
	case *wire.Open:
		if m.ID != h.id || m.Target != target {
			h.t.Errorf("OPEN %v to %v", m.ID, m.Target)
		}
		h.hearBytes(0, m.Early)
		h.limit = max(h.limit, uint64(len(m.Early))) // needs none
	case *wire.Resume:
		h.hearStored(m.Received)
	case *wire.OK:
		h.hearStored(m.Received)
	case *wire.Data:
		h.hearBytes(m.Offset, m.Bytes)
		if end := m.Offset + uint64(len(m.Bytes)); end > h.limit && !h.wild {
			h.t.Errorf("DATA up to %d, credit up to %d", end, h.limit)
		}
	case *wire.Fin:
		h.finned = h.finned || m.Offset == h.heard
	case *wire.Ack:
		h.hearStored(m.Received)
	case *wire.Reset, *wire.ResetAck, *wire.Moved:
	case *wire.TargetLeft:
		if h.proxy {
			h.t.Error("a proxy's end knows nothing of a target")
		}
	default:
		h.t.Errorf("the session sent %s", m.Type())
	}
}

func (h *hostile) hearBytes(offset uint64, p []byte) {
	for i, b := range p {
		if want := pattern(false, offset+uint64(i)); b != want {
			h.t.Errorf("byte %d is %#x, want %#x", offset+uint64(i), b, want)
			return
		}
	}
	if offset <= h.heard {
		h.heard = max(h.heard, offset+uint64(len(p)))
	}
}

func (h *hostile) hearStored(received uint64) {
	// One more is the FIN, if that was sent where the bytes end.
	if !h.wild && (received > h.sent+1 || received == h.sent+1 && !h.fins[h.sent]) {
		h.t.Errorf("%d stored, %d sent", received, h.sent)
	}
}

// write lets the application write, for a moment at most.
func (h *hostile) write(n int) {
	h.s.SetWriteDeadline(time.Now().Add(time.Millisecond))
	k, _ := h.s.Write(patterns(false, h.written, n))
	h.written += uint64(k)
}

// readOn lets the application read what there is, up to n bytes.
func (h *hostile) readOn(n int) {
	if h.s == nil {
		return
	}
	h.s.SetReadDeadline(time.Now().Add(time.Millisecond))
	p := make([]byte, 1000)
	for n > 0 {
		k, err := h.s.Read(p[:min(n, len(p))])
		n -= k
		for _, b := range p[:k] {
			if want := pattern(true, h.read); b != want && !h.wild {
				h.t.Fatalf("byte %d is %#x, want %#x", h.read, b, want)
			}
			h.read++
		}
		if err != nil {
			return
		}
	}
}

// check looks into the session.
func (h *hostile) check() {
	if h.s == nil {
		return
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	m := &h.s.m
	for name, q := range map[string]*queue{"received": &m.in, "to be sent": &m.out} {
		memory := 0
		for _, c := range q.chunks {
			memory += len(c.buf)
		}
		// Of the first and the last chunk only parts are in use.
		if q.start > q.end || q.len() > fuzzBuffer || memory > q.len()+2*largeChunk {
			h.t.Fatalf("%s: bytes %d to %d in %d bytes of memory, the buffer is %d", name, q.start, q.end, memory, fuzzBuffer)
		}
	}
	switch {
	case m.una > m.out.end+1:
		h.t.Errorf("acknowledged %d, written %d", m.una, m.out.end)
	case m.toldReceived > m.received:
		h.t.Errorf("told of %d, stored %d", m.toldReceived, m.received)
	case m.out.end > h.written:
		h.t.Errorf("%d to be sent, %d written", m.out.end, h.written)
	case h.s.generation < h.newest:
		h.t.Errorf("generation %d after %d", h.s.generation, h.newest)
	}
	h.newest = h.s.generation
}
