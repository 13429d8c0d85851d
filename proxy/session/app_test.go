package session

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// app is an application at one end of a model's session: what it will do, and
// what it saw.
type app struct {
	proxy      bool
	seed       uint64
	buffer     int // of its session
	total      int // bytes it writes
	writeFirst bool
	answers    bool // ends its direction when the peer has ended
	piece      int  // bytes per Write and Read, at most
	writePause time.Duration
	readPause  time.Duration
	copies     bool // reads by WriteTo
	quits      quit
	quitAt     int           // after so many bytes, read and written
	quitAfter  time.Duration // at latest

	done chan struct{}

	mu       sync.Mutex // guards all below
	written  int
	read     int
	ended    bool // CloseWrite was called
	eof      bool // read
	quitted  bool
	late     bool // to quit: the peer was told that all is well
	readErr  error
	writeErr error
}

// quit is how an application gives up.
type quit int

const (
	never quit = iota
	aborts
	closes // whatever is unread
	dies   // the proxy's, without a word
	breaks // the relay's: its target resets
)

func (q quit) String() string { return [...]string{"never", "aborts", "closes", "dies", "breaks"}[q] }

// newApps draws the applications of both ends.
func newApps(r *rand.Rand) (proxy, relay *app) {
	proxy, relay = newApp(r, true), newApp(r, false)
	if proxy.answers && relay.answers { // each would wait for the other
		relay.answers = false
	}
	if proxy.writeFirst && relay.writeFirst { // what nobody reads has to fit
		proxy.total = min(proxy.total, proxy.buffer)
		relay.total = min(relay.total, relay.buffer)
	}
	for _, a := range []*app{proxy, relay} {
		if a.readPause == time.Second { // slow, but not as if nothing moved (lingerTime)
			a.piece = max(a.piece, a.buffer/50, (proxy.total+relay.total)/200)
		}
	}
	if r.IntN(4) == 0 { // not both
		one := pick(r, proxy, relay)
		one.quits = pick(r, aborts, aborts, closes)
		if one.proxy && r.IntN(8) == 0 {
			one.quits = dies
		}
		if !one.proxy && r.IntN(3) == 0 {
			one.quits = breaks
		}
		one.quitAt = pick(r, 0, r.IntN(300), r.IntN(2*(proxy.total+relay.total+1)))
		one.quitAfter = pick(r, 0, time.Duration(r.Int64N(int64(time.Second))), time.Duration(r.Int64N(int64(40*time.Second))))
	}
	return proxy, relay
}

func newApp(r *rand.Rand, proxy bool) *app {
	a := &app{proxy: proxy, seed: r.Uint64()}
	a.buffer = pick(r, 64, 100, 256, 1000, 4096)
	a.total = pick(r, 0, 1+r.IntN(20), r.IntN(a.buffer), a.buffer+r.IntN(4*a.buffer))
	a.writeFirst = r.IntN(5) == 0
	a.answers = r.IntN(5) == 0
	a.piece = pick(r, 1+a.total/50, 1+a.total/10, a.total+1)
	a.writePause = pick(r, 0, 0, 20*time.Millisecond, time.Second)
	a.readPause = pick(r, 0, 0, 20*time.Millisecond, time.Second)
	a.copies = r.IntN(4) == 0
	return a
}

func (a *app) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("buffer %d, wrote %d of %d and read %d (%d at a time), write first %v, answers %v, quits: %v at %d or after %v; ended %v (%v), end read %v (%v)",
		a.buffer, a.written, a.total, a.read, a.piece, a.writeFirst, a.answers, a.quits, a.quitAt, a.quitAfter, a.ended, a.writeErr, a.eof, a.readErr)
}

// run is the application's life.
func (a *app) run(m *model, s *Session) {
	defer close(a.done)
	if a.quits != never && a.quitAfter > 0 {
		t := time.AfterFunc(a.quitAfter, func() { a.leave(m, s) })
		defer t.Stop()
	}
	wrote, heard := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(wrote)
		err := a.write(m, s)
		if err == nil && a.answers {
			<-heard
		}
		if err == nil {
			a.mu.Lock()
			a.ended = true
			a.mu.Unlock()
			err = s.CloseWrite()
		}
		a.mu.Lock()
		a.writeErr = err
		a.mu.Unlock()
	})
	wg.Go(func() {
		defer close(heard)
		if a.writeFirst && !a.answers {
			<-wrote
		}
		err := a.readAll(m, s)
		a.mu.Lock()
		a.readErr = err
		a.eof = err == nil
		a.mu.Unlock()
	})
	wg.Wait()
	s.Close()
}

func (a *app) write(m *model, s *Session) error {
	r := rand.New(rand.NewPCG(a.seed, 1))
	for done := 0; done < a.total; {
		n := min(1+r.IntN(a.piece), a.total-done)
		k, err := s.Write(patterns(!a.proxy, uint64(done), n))
		done += k
		a.moved(m, s, &a.written, k)
		if err != nil {
			return err
		}
		if a.writePause > 0 {
			time.Sleep(somewhile(r, a.writePause))
		}
	}
	return nil
}

// readAll reads to the end.
func (a *app) readAll(m *model, s *Session) error {
	c := &consumer{a: a, m: m, s: s, r: rand.New(rand.NewPCG(a.seed, 2))}
	if a.copies {
		_, err := s.WriteTo(c)
		return err
	}
	p := make([]byte, a.piece)
	for {
		n, err := s.Read(p[:1+c.r.IntN(len(p))])
		c.Write(p[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// consumer takes what an application reads.
type consumer struct {
	a *app
	m *model
	s *Session
	r *rand.Rand
}

// Write compares every byte with what the peer wrote (I1).
func (c *consumer) Write(p []byte) (int, error) {
	at := uint64(c.a.read) // only written here
	for i, b := range p {
		if want := pattern(c.a.proxy, at+uint64(i)); b != want {
			c.m.fail("byte %d is %#x, want %#x (I1); read by proxy: %v", at+uint64(i), b, want, c.a.proxy)
			break
		}
	}
	c.a.moved(c.m, c.s, &c.a.read, len(p))
	if c.r.IntN(4) == 0 {
		c.m.check()
	}
	if c.a.readPause > 0 {
		time.Sleep(somewhile(c.r, c.a.readPause))
	}
	return len(p), nil
}

// moved counts bytes, and gives up after enough of them.
func (a *app) moved(m *model, s *Session, count *int, n int) {
	a.mu.Lock()
	*count += n
	enough := a.quits != never && a.written+a.read >= a.quitAt
	a.mu.Unlock()
	if enough {
		a.leave(m, s)
	}
}

func (a *app) gaveUp() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.quitted
}

// leave gives up, once.
func (a *app) leave(m *model, s *Session) {
	a.mu.Lock()
	first := !a.quitted
	a.quitted = true
	a.mu.Unlock()
	if !first {
		return
	}
	m.tell("application %v: proxy's %v", a.quits, a.proxy)
	switch a.quits {
	case aborts:
		s.Abort(errors.New("gave up"))
	case closes:
		a.mu.Lock()
		a.ended = true // at what was written so far
		a.mu.Unlock()
		s.Close()
	case dies:
		m.kill()
	case breaks:
		s.Abort(syscall.ECONNRESET)
	case never:
	}
	s.mu.Lock() // what the peer was told by now stays, a reset says nothing else
	late := s.m.next > s.m.out.end && s.m.peerFin && s.m.toldReceived == s.m.received
	s.mu.Unlock()
	a.mu.Lock()
	a.late = late
	a.mu.Unlock()
}
