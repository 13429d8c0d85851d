package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// The model test runs both ends of many sessions, each through a fate of its own
// that is drawn from a seed: applications that talk, wait, half-close and abort
// over tiny buffers, carriers that are cut at any byte or overtaken by newer ones,
// a relay that is started anew. The faults end at some time. From then on every
// session has to end: cleanly with every byte, or with an error at both ends if
// someone gave it up (docs/protocol.md §10, I1 to I6).
//
//	SSHKA_MODEL_SESSIONS=20000   so many sessions (make soak)
//	SSHKA_MODEL_SEED=n           only the session with that seed, told frame by frame;
//	                             with both, so many from that seed on
const (
	modelSessions      = 3000
	modelSessionsShort = 500

	// stallTime is how long a session may take that nothing disturbs any more.
	stallTime = 30 * time.Minute
	// leaveTime is how long an Attach may go on whose session has ended.
	leaveTime = 30 * time.Second
)

func TestModel(t *testing.T) {
	sessions, seed := modelSessions, uint64(1)
	if testing.Short() {
		sessions = modelSessionsShort
	}
	sessions, given := setting(t, "SSHKA_MODEL_SESSIONS", sessions)
	if first, ok := setting(t, "SSHKA_MODEL_SEED", 0); ok {
		seed = uint64(first)
		if !given {
			newModel(seed, true).test(t)
			return
		}
	}
	var next atomic.Int64
	var total tally
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
			t.Parallel()
			for i := int(next.Add(1)); i <= sessions; i = int(next.Add(1)) {
				m := newModel(seed+uint64(i-1), false)
				m.test(t)
				total.add(m)
				if t.Failed() {
					next.Store(int64(sessions)) // one is enough
				}
			}
		})
	}
	t.Cleanup(func() { t.Log(&total) })
}

// setting is a number from the environment.
func setting(t *testing.T, name string, otherwise int) (n int, given bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q is no number", name, text)
	}
	return n, true
}

// model is one session, both its ends and what happens to it.
type model struct {
	seed        uint64
	verbose     bool
	r           *rand.Rand // of the fate; other goroutines have their own
	weather     weather
	dialTime    time.Duration // of the target, at most
	redialTime  time.Duration // between two carriers, at most
	openTime    time.Duration // before the first
	faults      int
	apart       time.Duration // from fault to fault, at most
	cuts        int           // how many carriers of a hundred are cut at some byte
	cutBytes    int           // which, at most
	restarts    bool
	unreachable bool // the target is

	proxyApp, relayApp *app
	proxy              *Session
	holder             *holder
	life               context.Context // the proxy's
	kill               context.CancelFunc
	start              time.Time
	wg                 sync.WaitGroup
	carrying           atomic.Uint64 // calls of carry so far
	attaching          atomic.Int64  // Attach calls under way

	mu       sync.Mutex // guards all below
	relay    *Session   // nil: not accepted yet
	lines    []*line
	orphaned time.Duration // how long the relay's end outlived the proxy's
	calm     bool
	restart  bool // there was one
	failures []string
	log      []string
	buried   time.Time // when the relay's end ended
}

func newModel(seed uint64, verbose bool) *model {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &model{seed: seed, verbose: verbose, r: r}
	m.weather = weather{
		delay:  pick(r, time.Microsecond, 10*time.Millisecond, 200*time.Millisecond, time.Second),
		piece:  pick(r, 3, 20, 200, 10_000),
		room:   pick(r, 16, 100, 1000, 100_000),
		late:   pick(r, time.Millisecond, time.Second, 20*time.Second),
		notice: pick(r, time.Millisecond, time.Second, 20*time.Second),
	}
	// An OPEN has to pass within the handshake's time.
	m.weather.room = max(m.weather.room, int(m.weather.delay.Milliseconds())*4)
	m.dialTime = pick(r, time.Microsecond, 100*time.Millisecond, 5*time.Second)
	m.redialTime = pick(r, time.Microsecond, 100*time.Millisecond, 5*time.Second, 5*time.Minute)
	m.openTime = pick(r, time.Microsecond, 100*time.Millisecond)
	m.faults = pick(r, 0, r.IntN(4), r.IntN(10), 5+r.IntN(15))
	m.apart = pick(r, 10*time.Millisecond, 500*time.Millisecond, 10*time.Second)
	if m.faults > 0 {
		m.cuts = pick(r, 0, 30, 60, 90)
	}
	m.cutBytes = pick(r, 150, 150, 500, 5000)
	m.restarts = r.IntN(25) == 0
	m.unreachable = r.IntN(40) == 0
	m.proxyApp, m.relayApp = newApps(r)
	m.weather.piece = max(m.weather.piece, (m.proxyApp.total+m.relayApp.total)/200) // time is short
	return m
}

// pick draws one.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// test runs the model in virtual time.
func (m *model) test(t *testing.T) {
	defer func() {
		if p := recover(); p != nil { // a bubble in which nothing moves any more
			t.Errorf("%v\n%v", p, m)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		m.run()
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.failures) > 0 {
			t.Errorf("%s\n%v", strings.Join(m.failures, "\n"), m)
		}
		if m.verbose {
			t.Logf("%s\n%v", strings.Join(m.log, "\n"), m)
		}
	})
}

func (m *model) String() string {
	return fmt.Sprintf("alone: SSHKA_MODEL_SEED=%d go test -v -run TestModel ./proxy/session\n"+
		"proxy: %v\nrelay: %v\n%+v, dial %v, redial %v, %d faults, %d%% of the carriers cut within %d bytes",
		m.seed, m.proxyApp, m.relayApp, m.weather, m.dialTime, m.redialTime, m.faults, m.cuts, m.cutBytes)
}

func (m *model) run() {
	m.start = time.Now()
	m.life, m.kill = context.WithCancel(context.Background())
	defer m.kill()
	m.holder = &holder{
		m: m, r: rand.New(rand.NewPCG(m.seed, 3)), instance: wire.ID{1},
		live: map[wire.ID]*keep{}, dead: map[wire.ID]*Session{},
	}
	m.proxyApp.done, m.relayApp.done = make(chan struct{}), make(chan struct{})
	m.proxy = Open(Config{}, target)
	m.proxy.m.buffer = m.proxyApp.buffer
	m.wg.Go(func() { m.proxyApp.run(m, m.proxy) })
	m.wg.Go(func() {
		time.Sleep(somewhile(rand.New(rand.NewPCG(m.seed, 5)), m.openTime))
		m.carry()
	})
	m.disturb()

	switch {
	case !within(stallTime, m.proxyApp.done), !within(stallTime, m.proxy.Done()):
		m.fail("the proxy's end stalls")
	default:
		time.Sleep(leaveTime)
		if n := m.attaching.Load(); n > 0 {
			m.fail("%d Attach calls go on after the end", n)
		}
	}
	ended := time.Now()
	left := make(chan struct{})
	go func() {
		m.wg.Wait()
		close(left)
	}()
	if m.failed() || !within(2*heldFor, left) {
		if !m.failed() {
			m.fail("the relay's end stalls")
		}
		m.tearDown()
	}
	<-left
	m.orphaned = m.buried.Sub(ended)
	if !m.failed() {
		m.verdict()
	}
}

func within(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// tearDown lets a session end that does not by itself.
func (m *model) tearDown() {
	m.kill()
	m.proxy.Abandon(errors.New("stalled"))
	m.mu.Lock()
	relay, lines := m.relay, m.lines
	m.mu.Unlock()
	if relay != nil {
		relay.Abandon(errors.New("stalled"))
	}
	for _, l := range lines {
		l.proxy.Close()
		l.relay.Close()
	}
}

// carry attaches the proxy's end to one carrier after the other, as
// client.Owner does, until the session has ended or another carry has overtaken.
func (m *model) carry() {
	r := rand.New(rand.NewPCG(m.seed, 100+m.carrying.Add(1)))
	for {
		l := m.dial()
		if l == nil {
			m.fail("carriers without end")
			m.proxy.Abandon(errors.New("carriers without end"))
			return
		}
		m.attaching.Add(1)
		err := m.proxy.Attach(m.life, l.proxy, l.process)
		m.attaching.Add(-1)
		m.judge("proxy's end", err)
		var refused *RefusedError
		switch {
		case err == nil, errors.Is(err, ErrMoved):
			return
		case errors.As(err, &refused), m.life.Err() != nil:
			m.proxy.Abandon(err)
			return
		}
		time.Sleep(somewhile(r, m.redialTime))
	}
}

const (
	// mostCarriers is more than any session of the model needs.
	mostCarriers = 200
	// mostCutAtBytes is how many of them may be cut at some byte, at most.
	mostCutAtBytes = 40
)

// dial returns a new carrier to the relay.
func (m *model) dial() *line {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.lines)
	if n == mostCarriers {
		return nil
	}
	r := rand.New(rand.NewPCG(m.seed, 1000+uint64(n)))
	toProxy, toRelay := -1, -1
	if !m.calm && n < mostCutAtBytes && r.IntN(100) < m.cuts {
		if r.IntN(2) == 0 {
			toProxy = r.IntN(m.cutBytes)
		} else {
			toRelay = r.IntN(m.cutBytes)
		}
	}
	l := newLine(r.Uint64(), m.weather, toProxy, toRelay)
	l.process = m.holder.process()
	if m.verbose {
		l.heard = func(from *lineEnd, frames []byte) {
			m.tell("carrier %d, %s: %s", n, l.name(from), describe(frames))
		}
	}
	m.lines = append(m.lines, l)
	m.wg.Go(func() { m.holder.accept(l) })
	return l
}

func (l *line) name(e *lineEnd) string {
	if e == l.proxy {
		return "proxy"
	}
	return "relay"
}

// describe writes frames for a person.
func describe(frames []byte) string {
	var b strings.Builder
	for r := bytes.NewReader(frames); r.Len() > 0; {
		msg, err := wire.Read(r)
		if err != nil {
			fmt.Fprintf(&b, " %v", err)
			break
		}
		switch msg := msg.(type) {
		case *wire.Data:
			fmt.Fprintf(&b, " DATA %d…%d", msg.Offset, msg.Offset+uint64(len(msg.Bytes)))
		case *wire.Open:
			fmt.Fprintf(&b, " OPEN generation %d, limit %d, %d early", msg.Generation, msg.Limit, len(msg.Early))
		case *wire.Resume:
			fmt.Fprintf(&b, " RESUME generation %d, received %d, limit %d", msg.Generation, msg.Received, msg.Limit)
		case *wire.OK:
			fmt.Fprintf(&b, " OK received %d, limit %d", msg.Received, msg.Limit)
		default:
			fmt.Fprintf(&b, " %v %+v", msg.Type(), msg)
		}
	}
	return b.String()
}

// disturb does what is to happen to the carriers, and returns when all is calm.
func (m *model) disturb() {
	for range m.faults {
		time.Sleep(somewhile(m.r, m.apart))
		if m.proxy.ended() {
			break
		}
		m.check()
		switch what := m.r.IntN(100); {
		case what < 45:
			m.cutNewest()
		case what < 55:
			m.cutAny()
		case what < 60 && m.restarts:
			m.tell("the relay is started anew")
			m.mu.Lock()
			m.restart = true
			lines := m.lines
			m.mu.Unlock()
			m.holder.restart()
			for _, l := range lines {
				l.cut()
			}
		default:
			m.overtake()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calm = true
	for _, l := range m.lines {
		l.calm()
	}
}

func (m *model) cutNewest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.lines); n > 0 {
		m.lines[n-1].cut()
	}
}

func (m *model) cutAny() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.lines); n > 0 {
		m.lines[m.r.IntN(n)].cut()
	}
}

// overtake attaches another carrier before the newest is lost.
func (m *model) overtake() {
	m.mu.Lock()
	n := len(m.lines)
	m.mu.Unlock()
	if n == 0 {
		return
	}
	m.tell("another carrier overtakes")
	m.wg.Go(m.carry)
}

// accepted starts the relay's application.
func (m *model) accepted(s *Session) {
	m.mu.Lock()
	first := m.relay == nil
	if first {
		m.relay = s
	}
	m.mu.Unlock()
	if !first {
		m.fail("the target was dialled twice (I5)")
		s.Abandon(errors.New("dialled twice"))
		return
	}
	m.wg.Go(func() { m.relayApp.run(m, s) })
}

// judge looks at what Attach, Answer or Receive returned.
func (m *model) judge(who string, err error) {
	m.tell("%s: returned %v", who, err)
	if errors.Is(err, wire.ErrProtocol) {
		m.fail("%s: %v", who, err)
	}
}

func (m *model) fail(format string, args ...any) {
	m.tell("FAILED "+format, args...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures = append(m.failures, fmt.Sprintf("after %v: ", time.Since(m.start))+fmt.Sprintf(format, args...))
}

func (m *model) failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.failures) > 0
}

// tell writes the story down.
func (m *model) tell(format string, args ...any) {
	if m.verbose {
		go func(at time.Duration) { // the caller may hold any lock
			m.mu.Lock()
			defer m.mu.Unlock()
			m.log = append(m.log, fmt.Sprintf("%v %s", at, fmt.Sprintf(format, args...)))
		}(time.Since(m.start))
	}
}
