package link

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// DefaultWindow is the window of a zero Config, in bytes.
	DefaultWindow = 16 << 20
	// backlog is how many streams may be opened and not accepted yet. Every slot
	// costs 8 bytes up front on each link.
	backlog = 256
	// closeTimeout is how long the peer may take to close its end of a stream.
	closeTimeout = 30 * time.Second
	// goodbyeTime is how long the GOAWAY of an ending Run may take.
	goodbyeTime = 250 * time.Millisecond
	// lingerTime is how long the peer may then take to close.
	lingerTime = 250 * time.Millisecond
)

// Config is how a link is set up. The zero Config works.
type Config struct {
	// Heartbeat is this end's; the peer has its own.
	Heartbeat heartbeat.Policy
	// ComeBack is what the peer is told when Run is ended by its context: when to
	// call again. Zero: at once.
	ComeBack time.Duration
	// Receipts tells that the peer sends RECEIPT, so that bulk can be governed; this
	// end always does.
	Receipts bool
	// MaxStreams is how many streams the peer may have open, those included that
	// are being closed; one more ends the link. Zero: as many as it likes.
	MaxStreams int
	// Accepted, at the relay's end, is given the carriers that the peer opens. It
	// must not block: Run calls it. Nil: they wait for Accept.
	Accepted func(io.ReadWriteCloser)
	// Window is every stream's receive window, in bytes. It must be above twice
	// what a session here takes in flight, its buffer, since yamux moves it in
	// halves: credit is the limit (docs/protocol.md §5), never this. Zero means
	// DefaultWindow.
	Window uint32
	// Trace is told what happens; nil is told nothing.
	Trace *Trace
}

// WindowFor returns the Window for sessions with the given buffer, in bytes. Zero
// is as for a session: its default.
func WindowFor(buffer int) uint32 { return uint32(max(DefaultWindow, 4*buffer)) }

// window is Window, in force.
func (c *Config) window() int {
	if c.Window == 0 {
		return DefaultWindow
	}
	return int(c.Window)
}

// Trace is a set of functions that a link calls when something happens. Each may
// be nil. They must not block and must not call the link.
type Trace struct {
	// BeatSent: a beat was handed to the writer.
	BeatSent func(seq uint64)
	// BeatAnswered: the answer to the last beat arrived.
	BeatAnswered func(rtt time.Duration)
	// BeatMissed: nothing was received within the timeout, for the row-th beat
	// in a row.
	BeatMissed func(row int)
	// Suspected: the peer may be lost, and another link may be better: a beat was
	// missed or a Probe was not answered in time (MissedBeats), or the
	// kernel sends again and again what nobody acknowledges (Timeout; on Linux, at
	// the proxy's end).
	Suspected func(reason Reason)
	// PeerBeat: the peer's beat arrived.
	PeerBeat func(seq uint64)
	// SlowDown: the peer asked for a longer interval, now in force.
	SlowDown func(interval time.Duration)
	// GoAway: the peer is about to close the link.
	GoAway func(after time.Duration, reason string)
	// LimitHit: the peer has taken as much as it may.
	LimitHit func(Limit)
	// Lost: the link has ended.
	Lost func(*LostError)
}

// Link is one end of a link.
type Link struct {
	cfg    Config
	trace  Trace
	client bool
	meter  *Meter
	mux    *yamux.Session
	framer *framer // beneath mux

	unread   unread
	accepted chan *carrier
	ready    chan struct{} // closed when the control stream is there
	dead     chan struct{} // closed when the link has ended
	away     chan struct{} // closed when the peer sent GOAWAY
	mute     atomic.Bool   // nothing is written any more
	tasks    sync.WaitGroup

	mu       sync.Mutex // guards all below
	lost     *LostError // set when dead is closed
	cause    error      // the connection's first error
	parting  error      // why this end ends the link; nil: it does not
	beats    *heartbeat.Machine
	timer    *time.Timer
	pace     heartbeat.Pace
	tally    tally
	control  *carrier            // once it may be written to
	goAway   *wire.GoAway        // the peer's
	carriers map[uint32]*carrier // by stream, the control stream's with them
	queue    queue
	writer   func()  // is write: to make it at each start would cost
	writing  bool    // there is a writer
	chunk    chunker // the writer's alone, as is unsent
	unsent   int     // what the kernel was told that it may hold, in bytes

	governor  governor
	received  uint64      // bytes of the link so far, above TLS
	told      uint64      // of these to the peer
	beatAfter uint64      // what had left when the last beat did
	teller    *time.Timer // tells, once armed
	telling   bool

	asker  *time.Timer // asks the kernel about bulk that waits, while asking
	asking bool
	blind  bool // and it cannot say

	watcher  *time.Timer // looks at what is written, while watching
	watching bool

	// Only yamux's two loops use these.
	controlID uint32 // the control stream's; 0: not opened yet
	partial   []byte // of a control message
}

// muxConfig keeps what yamux v0.1.2 would do on its own out of the way.
func muxConfig(window int) *yamux.Config {
	return &yamux.Config{
		AcceptBacklog: backlog,
		// Its keepalive ends the session on the first ping that is late, counts
		// nothing, and its pings queue behind data.
		EnableKeepAlive:   false,
		KeepAliveInterval: time.Hour, // unused, must be positive
		// A write that is blocked for this long would fail and lose data. Beats
		// judge liveness.
		ConnectionWriteTimeout: math.MaxInt64,
		MaxStreamWindowSize:    uint32(window),
		// Would close the whole session when one stream is accepted late.
		StreamOpenTimeout: 0,
		// A half-closed stream is cut after this and its reader sees a clean end:
		// so streams are never half-closed, and an end of stream is a FIN frame
		// of the session.
		StreamCloseTimeout: closeTimeout,
		LogOutput:          io.Discard,
	}
}

// Client returns the proxy's end of a link over conn, which is TLS over meter.
// It owns both. Run must be called.
func Client(conn net.Conn, meter *Meter, cfg Config) (*Link, error) {
	return newLink(conn, meter, cfg, true)
}

// Server returns the relay's end of a link; see Client.
func Server(conn net.Conn, meter *Meter, cfg Config) (*Link, error) {
	return newLink(conn, meter, cfg, false)
}

func newLink(conn net.Conn, meter *Meter, cfg Config, client bool) (*Link, error) {
	if err := cfg.Heartbeat.Validate(); err != nil {
		return nil, err
	}
	l := &Link{
		cfg:      cfg,
		client:   client,
		meter:    meter,
		accepted: make(chan *carrier),
		ready:    make(chan struct{}),
		dead:     make(chan struct{}),
		away:     make(chan struct{}),
		carriers: make(map[uint32]*carrier),
		beats:    heartbeat.New(cfg.Heartbeat, rand.Float64),
		governor: newGovernor(),
		chunk:    chunker{size: firstChunk, most: maxChunk},
	}
	if cfg.Trace != nil {
		l.trace = *cfg.Trace
	}
	l.queue.wake, l.writer = l.startWriter, l.write
	l.unread.full = func() { l.hit(LimitUnread) }
	l.framer = &framer{
		conn:    conn,
		meter:   l.meter,
		close:   func() { l.meter.Close() },
		caused:  l.caused,
		mute:    &l.mute,
		deaf:    make(chan struct{}),
		streams: l,
		say:     l.say,
		leaving: l.leaving,
		passed:  l.passed,
	}
	var err error
	if client {
		l.mux, err = yamux.Client(l.framer, muxConfig(cfg.window()))
	} else {
		l.mux, err = yamux.Server(l.framer, muxConfig(cfg.window()))
	}
	return l, err
}

// Run works until the link ends or ctx is done, says so to the peer if it still
// listens, and returns when all it started has ended. The error is always a
// *LostError.
func (l *Link) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.part(context.Cause(ctx))
	})
	defer stop()
	l.limitUnsent()
	l.tick()
	l.accept() // until yamux closes, at the latest upon the link's end

	<-l.dead
	l.mux.Close()
	l.tasks.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trace.Lost != nil {
		l.trace.Lost(l.lost)
	}
	return l.lost
}

// caused takes the connection's error.
func (l *Link) caused(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = err
	}
}

// end ends the link, once. The connection's own error, if there is one, is the
// cause of whatever broke upon it.
func (l *Link) end(reason Reason, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return
	}
	switch {
	case l.parting != nil:
		reason, err = Shutdown, l.parting
	case l.cause != nil && reason == Protocol:
		reason, err = classify(l.cause), l.cause
	}
	if l.goAway != nil && reason != MissedBeats {
		reason = Shutdown
	}
	l.lost = &LostError{Reason: reason, Err: err}
	close(l.dead)
	l.meter.Close() // unblocks whoever reads or writes
	l.unread.close()
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, t := range []*time.Timer{l.watcher, l.teller, l.asker} {
		if t != nil {
			t.Stop()
		}
	}
	for _, c := range l.carriers {
		c.in.end(l.lost)
		c.wake.Broadcast()
	}
}

// err is the error of a link that has ended. The caller holds mu.
func (l *Link) err() error {
	if l.lost == nil {
		return nil
	}
	return l.lost
}

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.dead }

// Err is nil while the link lives, then a *LostError.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err()
}

// Away is closed when the peer has announced that it will close the link.
func (l *Link) Away() <-chan struct{} { return l.away }

// ComeBack is when the peer wants to be called again after its GOAWAY.
func (l *Link) ComeBack() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goAway == nil {
		return 0
	}
	return l.goAway.After
}

// Interval is this end's heartbeat interval now in force; 0: off.
func (l *Link) Interval() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beats.Interval()
}

// Open opens a carrier. It returns within 10 ms of ctx's end.
func (l *Link) Open(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case <-l.ready: // the control stream comes first
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.dead:
		return nil, l.Err()
	}
	result := make(chan *carrier, 1)
	l.mu.Lock()
	if l.lost != nil {
		defer l.mu.Unlock()
		return nil, l.lost
	}
	l.tasks.Go(func() { // yamux may block here until the link ends
		defer close(result)
		stream, err := l.mux.OpenStream()
		if err != nil {
			return
		}
		result <- l.carrier(stream)
	})
	l.mu.Unlock()
	select {
	case c := <-result:
		if c != nil {
			return c, nil
		}
		if l.mux.IsClosed() { // and so is the link, in a moment
			<-l.dead
		}
		if err := l.Err(); err != nil {
			return nil, err
		}
		return nil, errors.New("open carrier: no more streams on this link")
	case <-ctx.Done():
		go func() {
			if c := <-result; c != nil {
				c.Close()
			}
		}()
		return nil, context.Cause(ctx)
	case <-l.dead:
		return nil, l.Err()
	}
}

// Accept returns the next carrier that the peer opened, where no Config.Accepted
// takes them. It is called in a loop that never blocks in between.
func (l *Link) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.dead:
		return nil, l.Err()
	}
}

// accept takes streams as they come, the control stream first, and ends the link
// with yamux.
func (l *Link) accept() {
	if l.client {
		stream, err := l.mux.OpenStream()
		if err != nil {
			l.end(Protocol, err)
			return
		}
		l.startControl(l.carrier(stream))
	}
	for {
		stream, err := l.mux.AcceptStream()
		if err != nil {
			l.caused(wire.Violation("yamux: %v", err)) // unless the connection failed
			l.end(Protocol, nil)
			return
		}
		c := l.carrier(stream)
		switch {
		case l.control == nil:
			l.startControl(c)
		case l.cfg.Accepted != nil:
			l.cfg.Accepted(c)
		default:
			select {
			case l.accepted <- c:
			case <-l.mux.CloseChan(): // the next AcceptStream fails
			case <-l.dead:
				return
			}
		}
	}
}

// part ends the link for a reason of this end's.
func (l *Link) part(why error) {
	l.mu.Lock()
	l.parting = why
	l.mu.Unlock()
	if l.goodbye() && !l.client {
		l.linger()
	}
	l.end(Shutdown, why)
}

// goodbye tells the peer that this end is about to close the link, and waits
// until that is written, within reason. It reports whether it is.
func (l *Link) goodbye() bool {
	l.mu.Lock()
	written := make(chan struct{})
	l.queue.control.goAway = &wire.GoAway{After: l.cfg.ComeBack, Reason: "shutdown"}
	l.queue.control.goAwayWritten = written
	l.queue.wake()
	l.mu.Unlock()
	late := time.NewTimer(goodbyeTime)
	defer late.Stop()
	select {
	case <-written:
		return true
	case <-l.dead:
	case <-late.C:
	}
	return false
}

// linger sends the end of the stream and waits until the peer has closed, too. A
// connection that is closed while the peer still writes is reset, and a reset throws away
// what the peer has not read yet: how its sessions ended, and why (RFC 2525, 2.17).
func (l *Link) linger() {
	half, ok := l.meter.Conn.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	l.mute.Store(true)
	if half.CloseWrite() != nil {
		return
	}
	late := time.NewTimer(lingerTime)
	defer late.Stop()
	select {
	case <-l.dead:
	case <-late.C:
	}
}
