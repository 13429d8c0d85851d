package session

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// DefaultBuffer is the buffer of a zero Config, in bytes.
	DefaultBuffer = 4 << 20
	// MinBuffer is the smallest buffer of a Config, in bytes.
	MinBuffer = 64 << 10
	// MaxBuffer is the largest, in bytes. A link's window follows the buffer, so that
	// credit is the only limit.
	MaxBuffer = 64 << 20

	// ackDelay is how long an acknowledgement may wait for data to travel with.
	// The protocol allows 100 ms.
	ackDelay = 40 * time.Millisecond
	// lingerTime is how long after Close the peer may take to end its direction
	// without any progress.
	lingerTime = 60 * time.Second
	// lastWordsTime is the same after the target's reset, which waits meanwhile: an
	// application that does not read is to know.
	lastWordsTime = 15 * time.Second
)

// Config is how an end of a session is set up. The zero Config works.
type Config struct {
	// Buffer bounds what is held per direction, in bytes: what the peer has not
	// stored yet, and what the application has not read yet. Zero means
	// DefaultBuffer; it is clipped to MinBuffer…MaxBuffer.
	Buffer int
	// Memory is told what the session holds, and may ask it to hold less. Nil
	// counts nothing.
	Memory *Memory
	// Trace is told what happens; nil is told nothing.
	Trace *Trace
}

// Trace is a set of functions that a session calls when something happens. Each
// may be nil. They must not block and must not call the session.
type Trace struct {
	// Attached: bytes flow over a carrier, the generation-th of the session.
	Attached func(generation uint64)
	// Detached: that carrier is gone. err is nil when the session has ended.
	Detached func(generation uint64, err error)
	// Opened: the target is reached and s lives until Ended.
	Opened func(s *Session)
	// Paused: bytes flow no more, and s waits for another carrier.
	Paused func(s *Session)
	// Resumed: bytes flow again, pause after they ceased to; so many of those
	// sent before are sent again.
	Resumed func(s *Session, pause time.Duration, replayed uint64)
	// Ended: nothing is left to tell the peer, and stats do not change any more.
	// err is as Err's.
	Ended func(s *Session, stats Stats, err error)
}

// ErrMoved is what Attach and Answer return when a newer carrier has taken the
// session over.
var ErrMoved = errors.New("session moved to a newer carrier")

// Session is one end of a byte stream that runs over successive carriers. It is
// a net.Conn for the application, with CloseWrite and Abort.
type Session struct {
	id     wire.ID
	target wire.Target
	trace  Trace
	born   time.Time
	relay  bool // the relay's end: its target is reached, and the proxy is to be told

	mu        sync.Mutex // guards all below
	m         machine
	opened    bool       // OK was received or sent
	reader    *sync.Cond // there may be something to read
	writer    *sync.Cond // there may be room to write
	ready     chan struct{}
	done      chan struct{} // closed when nothing is left to do
	onFailure func(error)   // told once that Err is not nil; nil: nobody
	pump      *pump         // writes what can be read; nil: nobody does

	generation uint64        // of the newest carrier; 0: none yet
	newest     *carrier      // nil: none yet, or none any more
	instance   wire.ID       // the relay process that holds the session; at the proxy
	secret     wire.Secret   // of the session's ticket; at the proxy
	paused     time.Time     // when bytes ceased to flow; zero while they do
	attachedAt time.Time     // when they began to flow last
	failedAt   time.Time     // since when failure is known; zero: there is none
	targetLeft time.Duration // how long bytes had not flowed when the target ended; 0: they did
	ackTimer   *time.Timer
	ackDue     bool
	ackArmed   bool

	readDeadline, writeDeadline deadline
	closed                      bool
	linger                      *time.Timer
	lingerMark                  uint64
}

// Open returns the proxy's end of a new session to target. Its first carrier
// sends OPEN.
func Open(cfg Config, target wire.Target) *Session {
	s := newSession(cfg, wire.ID{}, target)
	_, _ = rand.Read(s.id[:]) // never fails
	return s
}

// Accept returns the relay's end of the session that open asks for. The early
// data can be read at once; Answer tells the proxy that the target is reached.
func Accept(cfg Config, open *wire.Open) *Session {
	s := newSession(cfg, open.ID, open.Target)
	s.relay = true
	s.m.in.append(open.Early)
	s.m.received = uint64(len(open.Early))
	return s
}

func newSession(cfg Config, id wire.ID, target wire.Target) *Session {
	if cfg.Buffer == 0 {
		cfg.Buffer = DefaultBuffer
	}
	s := &Session{
		id:     id,
		target: target,
		born:   time.Now(),
		m:      newMachine(min(max(cfg.Buffer, MinBuffer), MaxBuffer), cfg.Memory),
		ready:  make(chan struct{}),
		done:   make(chan struct{}),
	}
	cfg.Memory.add(sessionCost)
	if cfg.Trace != nil {
		s.trace = *cfg.Trace
	}
	s.reader, s.writer = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	return s
}

// ID names the session, the same at both ends.
func (s *Session) ID() wire.ID { return s.id }

// Target is what the session was opened to.
func (s *Session) Target() wire.Target { return s.target }

// Final is what a RESUME of this session is told once it has ended cleanly: all
// that was received, the FIN as one more.
func (s *Session) Final() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.received
}

// Secret is that of the session's ticket, at the proxy: with it and the session's
// ID a link can be authenticated that is to carry the session. Zero: none.
func (s *Session) Secret() wire.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}

// Opened is closed when the relay has reached the target, or the session has
// ended without.
func (s *Session) Opened() <-chan struct{} { return s.ready }

// Done is closed when the session has ended and nothing is left to tell the
// peer: its carrier can go.
func (s *Session) Done() <-chan struct{} { return s.done }

// OnFailure calls f with Err, in a goroutine of its own, when that is not nil any
// more: for whoever waits for the other side of a splice, and would not notice. It
// is called once at most, and not after stop has returned. A later OnFailure takes
// the earlier one's place.
func (s *Session) OnFailure(f func(error)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var once sync.Mutex // held while f runs, and by stop
	stopped := false
	s.onFailure = func(err error) {
		once.Lock()
		defer once.Unlock()
		if !stopped {
			f(err)
		}
	}
	s.tellFailure()
	return func() {
		once.Lock()
		defer once.Unlock()
		stopped = true
	}
}

// tellFailure calls onFailure if there is a reason. The caller holds mu.
func (s *Session) tellFailure() {
	if s.m.failure != nil && s.onFailure != nil {
		go s.onFailure(s.m.failure)
		s.onFailure = nil
	}
}

// Err is why the session ended before both directions did: a *RefusedError, a
// *ResetError, or what Abandon was given. It is nil while the session lives and
// after a clean end.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.failure
}

// Read reads what the peer's application wrote. It returns io.EOF after a clean
// end, and after a reset its reason, once everything that came before was read.
func (s *Session) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(p) > 0:
		if _, err := s.waitReadable(); err != nil {
			return 0, err
		}
	case s.closed:
		return 0, net.ErrClosed
	case s.readDeadline.passed():
		return 0, os.ErrDeadlineExceeded
	}
	n := s.m.read(p)
	s.consumed()
	return n, nil
}

// waitReadable waits until there is something to read. The caller holds mu.
func (s *Session) waitReadable() ([]byte, error) {
	for {
		if p, err := s.readable(); len(p) > 0 || err != nil {
			return p, err
		}
		s.reader.Wait()
	}
}

// readable returns what there is to read that lies together, or why there will be
// nothing. The caller holds mu.
func (s *Session) readable() ([]byte, error) {
	switch p := s.m.in.peek(s.m.in.start); {
	case s.closed:
		return nil, net.ErrClosed
	case s.readDeadline.passed():
		return nil, os.ErrDeadlineExceeded
	case len(p) > 0:
		return p, nil
	case s.m.failure != nil:
		return nil, s.m.failure
	case s.m.peerFin:
		return nil, io.EOF
	}
	return nil, nil
}

// consumed tells the peer of new room when that is worth a frame.
func (s *Session) consumed() {
	s.m.grow(time.Now())
	if s.m.ackUrgent() {
		s.kick()
	}
}

// Write stores p for the peer and returns when all of it is stored or the
// session ends. Stored bytes are sent over this and later carriers until the
// peer has them.
func (s *Session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for {
		switch {
		case s.closed:
			return total, net.ErrClosed
		case s.writeDeadline.passed():
			return total, os.ErrDeadlineExceeded
		case s.m.failure != nil:
			return total, s.m.failure
		case s.m.finned:
			return total, fmt.Errorf("write after CloseWrite: %w", io.ErrClosedPipe)
		case len(p) == 0:
			return total, nil
		}
		if n := s.m.write(p); n > 0 {
			p = p[n:]
			total += n
			s.kick()
			continue
		}
		s.writer.Wait()
	}
}

// CloseWrite ends this direction once all that was written has arrived. The
// other goes on.
func (s *Session) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.m.failure != nil:
		return s.m.failure
	}
	s.m.closeWrite()
	s.leaves()
	s.wake()
	return nil
}

// leaves remembers, at the relay, that the target has ended while nobody could be
// told. The caller holds mu.
func (s *Session) leaves() {
	if s.relay && s.targetLeft == 0 && !s.paused.IsZero() {
		s.targetLeft = max(time.Since(s.paused), 1)
	}
}

// TargetLeft is how long bytes had not flowed when the target ended its
// connection. Zero: they flowed, or it did not end.
func (s *Session) TargetLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targetLeft
}

// Close ends both directions. What was written is still delivered, as after a
// close of a TCP connection; what was received and not read makes it a reset.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.readDeadline.set(time.Time{}, nil)
	s.writeDeadline.set(time.Time{}, nil)
	if s.m.failure == nil {
		s.m.closeWrite()
		s.m.closeRead()
	} else {
		s.m.in.clear() // nobody will read it
	}
	s.linger = time.AfterFunc(s.patience(), s.lingered)
	s.wake()
	return nil
}

// patience is how long the peer of a closed session may make no progress. The caller
// holds mu.
func (s *Session) patience() time.Duration {
	if s.m.resetLast != nil {
		return lastWordsTime
	}
	return lingerTime
}

// Silencer is implemented by a carrier that knows for how long nothing has come from its
// peer, for any session: the peer of one that is silent may not be there.
type Silencer interface{ Silence() time.Duration }

// silent reports whether the peer of a closed session cannot be blamed for making no
// progress. The caller holds mu.
func (s *Session) silent() bool {
	c, ok := s.newest.ReadWriteCloser.(Silencer)
	return ok && c.Silence() >= s.patience()
}

// lingered resets a closed session whose peer makes no progress. While it is
// detached the peer cannot: the next carrier starts the wait anew. Nor while its link is
// silent, which may be lost.
func (s *Session) lingered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return
	default:
	}
	if s.opened && !s.stats().Attached {
		return
	}
	if s.m.una > s.lingerMark && s.m.una <= s.m.out.end || s.newest != nil && s.silent() {
		s.lingerMark = s.m.una
		s.linger.Reset(s.patience())
		return
	}
	s.m.abort(wire.CodeAborted, "closed and not answered")
	s.abandonUnopened()
	s.wake()
}

// Abort resets the session: the peer's application sees an error, not an end.
// cause becomes the reason that the peer is told.
func (s *Session) Abort(cause error) {
	code := wire.CodeAborted
	if s.relay && targetGone(cause) {
		code = wire.CodeTargetReset
	}
	s.Reset(code, s.reason(cause))
}

// targetGone reports whether the target's connection is no more: it was reset, or is
// written to, or half-closed, after it was.
func targetGone(cause error) bool {
	return errors.Is(cause, syscall.ECONNRESET) || errors.Is(cause, syscall.EPIPE) || errors.Is(cause, syscall.ENOTCONN)
}

// reason is what the peer is told of cause: which of the two connections broke, and
// not between which addresses.
func (s *Session) reason(cause error) string {
	var errno syscall.Errno
	switch {
	case cause == nil:
		return "aborted"
	case !errors.As(cause, &errno):
		return cause.Error()
	case s.relay:
		return "target: " + errno.Error()
	}
	return "client: " + errno.Error()
}

// Reset is Abort with a code of the caller's choice.
func (s *Session) Reset(code wire.Code, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if code == wire.CodeTargetReset {
		s.m.abortLast(code, message)
		s.leaves()
	} else {
		s.m.abort(code, message)
	}
	s.abandonUnopened()
	s.wake()
}

// abandonUnopened ends a reset session that has nobody to tell: closing the
// carrier says it all. The relay's end tells once it has answered, else the proxy
// would ask for another dial. The caller holds mu.
func (s *Session) abandonUnopened() {
	if !s.opened && !s.relay {
		s.abandon(s.m.failure)
	}
}

// Abandon gives the session up without a carrier to tell the peer: its link is
// gone and will not come back, or it was never opened.
func (s *Session) Abandon(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon(err)
}

func (s *Session) abandon(err error) {
	if s.m.over() {
		err = nil
	}
	if err != nil {
		s.m.fail(err)
	}
	hello := s.newest
	s.newest = nil // fences the carrier there may be
	s.startSender(hello)
	s.finish()
	if hello != nil && hello.hello {
		hello.Close() // ends the wait for an answer
	}
	s.wake()
}

// finish marks the session as ended and everything as told. The caller holds
// mu.
func (s *Session) finish() {
	first := !s.ended()
	s.release(s.ready)
	s.release(s.done)
	if s.linger != nil {
		s.linger.Stop()
	}
	if s.ackTimer != nil {
		s.ackTimer.Stop()
	}
	s.m.out.clear()
	if first {
		s.m.memory.add(-sessionCost)
		s.m.memory.giveBack(s.m.granted)
		s.m.granted = 0
	}
	if first && s.trace.Ended != nil {
		s.trace.Ended(s, s.stats(), s.m.failure)
	}
}

// release closes ch once. The caller holds mu.
func (s *Session) release(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// wake lets everyone look again. The caller holds mu.
func (s *Session) wake() {
	if s.m.failure != nil {
		s.tellFailure()
		if s.failedAt.IsZero() {
			s.failedAt = time.Now()
		}
	}
	s.wakeReader()
	s.writer.Broadcast()
	s.kick()
}
