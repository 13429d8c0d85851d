package session

import (
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// line is a carrier of the model: an in-memory connection in virtual time, whose
// bytes travel for a while and which can be cut. A cut delivers any prefix of what
// was on the way, in each direction, perhaps much later; each end notices at its
// own time and may write into the void until then.
type line struct {
	mu           sync.Mutex // guards all below and both ends
	changed      *sync.Cond
	severed      bool
	severedAt    time.Time
	weather      weather
	proxy, relay *lineEnd
	process      wire.ID                            // of the relay's, which it leads to
	heard        func(from *lineEnd, frames []byte) // told of every Write; may be nil
}

// weather is how a line behaves.
type weather struct {
	delay  time.Duration // one way, at most
	piece  int           // bytes that travel together, at most
	room   int           // bytes on the way, at most: then Write waits
	late   time.Duration // how much later what was on the way at a cut arrives, at most
	notice time.Duration // how long after a cut an end notices, at most
}

// lineEnd is one end of a line. What is said of "to" it was written by its peer.
type lineEnd struct {
	line *line
	peer *lineEnd
	r    *rand.Rand // of what happens to the bytes to this end

	in      []segment // on the way to this end, in order
	queued  int       // bytes of in
	last    time.Time // when the last of them arrives
	left    int       // bytes to this end until the line is cut there; negative: no cut
	lost    int       // bytes to this end that it never read
	written int       // bytes to this end while its session was there
	said    bool      // something was written to this end
	word    []byte    // the last of that
	eof     time.Time // when the peer's close arrives; zero: not closed
	closed  bool
	dead    error // noticed
}

type segment struct {
	at    time.Time
	bytes []byte
}

// newLine returns a line whose fate is drawn from the seed. Bytes are delivered
// before it is cut as toProxy and toRelay say; negative is no cut.
func newLine(seed uint64, w weather, toProxy, toRelay int) *line {
	l := &line{weather: w}
	l.changed = sync.NewCond(&l.mu)
	l.proxy = &lineEnd{line: l, r: rand.New(rand.NewPCG(seed, 1)), left: toProxy}
	l.relay = &lineEnd{line: l, r: rand.New(rand.NewPCG(seed, 2)), left: toRelay}
	l.proxy.peer, l.relay.peer = l.relay, l.proxy
	return l
}

// Write sends p to the peer.
func (e *lineEnd) Write(p []byte) (int, error) {
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	if e.line.heard != nil {
		e.line.heard(e, p)
	}
	to := e.peer
	to.said, to.word = true, append(to.word[:0], p...)
	for n := 0; ; {
		switch {
		case e.closed:
			to.lost += len(p) - n
			return n, io.ErrClosedPipe
		case e.dead != nil:
			to.lost += len(p) - n
			return n, e.dead
		case n == len(p):
			return n, nil
		}
		room := e.line.weather.room - to.queued - to.lost
		if to.closed {
			to.lost += len(p) - n
			return len(p), nil // nobody is there, which this end may learn later
		}
		if room <= 0 {
			e.line.changed.Wait()
			continue
		}
		k := min(len(p)-n, room, 1+to.r.IntN(e.line.weather.piece))
		to.put(p[n : n+k])
		n += k
	}
}

// put lets bytes travel to e. The caller holds mu.
func (e *lineEnd) put(p []byte) {
	e.written += len(p)
	cut := e.left >= 0 && len(p) >= e.left
	switch {
	case e.line.severed:
		e.lost += len(p)
		return
	case cut:
		e.lost += len(p) - e.left
		p = p[:e.left]
	case e.left > 0:
		e.left -= len(p)
	}
	if len(p) > 0 {
		e.queued += len(p)
		e.in = append(e.in, segment{e.arrival(), append([]byte(nil), p...)})
	}
	if cut {
		e.line.sever(e)
	}
}

// arrival is when what is written now arrives, never at the same time as
// anything else. The caller holds mu.
func (e *lineEnd) arrival() time.Time {
	at := time.Now().Add(somewhile(e.r, e.line.weather.delay))
	if at.Before(e.last) {
		at = e.last.Add(1)
	}
	e.last = at
	e.line.wakeAt(at)
	return at
}

// wakeAt lets everyone look again at a time.
func (l *line) wakeAt(at time.Time) { time.AfterFunc(time.Until(at), l.wake) }

func (l *line) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
}

// Read takes what has arrived.
func (e *lineEnd) Read(p []byte) (int, error) {
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case e.closed:
			return 0, io.ErrClosedPipe
		case len(e.in) > 0 && !e.in[0].at.After(now):
			s := &e.in[0]
			n := copy(p, s.bytes)
			if s.bytes = s.bytes[n:]; len(s.bytes) == 0 {
				e.in = e.in[1:]
			}
			e.queued -= n
			e.line.changed.Broadcast()
			return n, nil
		case e.dead != nil && len(e.in) == 0:
			return 0, e.dead
		case !e.eof.IsZero() && len(e.in) == 0 && !e.eof.After(now):
			return 0, io.EOF
		}
		e.line.changed.Wait()
	}
}

// Close ends both directions: the peer still gets what was written, then the end.
func (e *lineEnd) Close() error {
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.keep(0)
	if !e.line.severed {
		e.peer.eof = e.peer.arrival()
	}
	e.line.changed.Broadcast()
	return nil
}

// cut cuts the line now.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sever(nil)
}

// calm takes back a cut that is still to come.
func (l *line) calm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxy.left, l.relay.left = -1, -1
}

// Silence is that of a link that beats all the time (Silencer).
func (e *lineEnd) Silence() time.Duration {
	e.line.mu.Lock()
	defer e.line.mu.Unlock()
	if !e.line.severed {
		return 0
	}
	return time.Since(e.line.severedAt)
}

// isCut reports whether the line was cut, and not only closed.
func (l *line) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.severed
}

// answered reports whether the relay's end wrote anything.
func (l *line) answered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proxy.said
}

// writtenTo is how many bytes were written to the end.
func (l *line) writtenTo(e *lineEnd) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return e.written
}

// hungUp reports whether the proxy's end was closed.
func (l *line) hungUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proxy.closed
}

// lostWord returns what the proxy's end wrote last if it was lost in a cut.
func (l *line) lostWord() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.severed || l.relay.lost == 0 {
		return nil
	}
	return l.relay.word
}

// sever cuts the line. All that is on the way to the end whole arrives, to the
// other a prefix. The caller holds mu.
func (l *line) sever(whole *lineEnd) {
	if l.severed {
		return
	}
	l.severed, l.severedAt = true, time.Now()
	for _, e := range []*lineEnd{l.proxy, l.relay} {
		if e != whole {
			e.keep(e.r.IntN(e.queued + 1))
		}
		if e.r.IntN(2) == 0 {
			e.delay(somewhile(e.r, l.weather.late))
		}
		e.eof = time.Time{}
		hard := e != whole && e.r.IntN(2) == 0
		time.AfterFunc(somewhile(e.r, l.weather.notice), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if e.dead = syscall.ECONNRESET; hard {
				e.keep(0)
			}
			l.changed.Broadcast()
		})
	}
	l.changed.Broadcast()
}

// keep drops all but n of the bytes on the way to e. The caller holds mu.
func (e *lineEnd) keep(n int) {
	e.lost += e.queued - n
	e.queued = n
	for i := range e.in {
		s := &e.in[i]
		if n < len(s.bytes) {
			s.bytes = s.bytes[:n]
		}
		if n -= len(s.bytes); len(s.bytes) == 0 {
			e.in = e.in[:i]
			return
		}
	}
}

// delay lets all that is on the way to e arrive later. The caller holds mu.
func (e *lineEnd) delay(d time.Duration) {
	for i := range e.in {
		e.in[i].at = e.in[i].at.Add(d)
		e.line.wakeAt(e.in[i].at)
	}
}

// somewhile is a time below most: often none to speak of, often short, seldom
// long, and never exactly that of another event.
func somewhile(r *rand.Rand, most time.Duration) time.Duration {
	d := time.Duration(1 + r.Int64N(10_000))
	switch r.IntN(4) {
	case 0:
	case 1, 2:
		d += time.Duration(r.Int64N(int64(most)/20 + 1))
	default:
		d += time.Duration(r.Int64N(int64(most) + 1))
	}
	return d
}
