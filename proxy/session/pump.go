package session

import (
	"errors"
	"io"
)

// pump writes what can be read of a session. Its goroutine runs only while there is
// something to write: of thousands of sessions most are idle. The session's mu
// guards it.
type pump struct {
	w       io.Writer
	done    func(total int64, err error)
	total   int64
	run     func() // the goroutine's function: to make it at each start would cost
	running bool   // there is the goroutine
}

// Pump does what WriteTo does and does not wait for it: done is called once, in
// another goroutine, with what WriteTo would have returned. Whoever pumps does not
// read.
func (s *Session) Pump(w io.Writer, done func(total int64, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &pump{w: w, done: done}
	p.run = func() {
		if err := s.empty(p); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			p.done(p.total, err)
		}
	}
	s.pump = p
	s.startPump()
}

// startPump starts the goroutine of a pump that has something to do. The caller
// holds mu.
func (s *Session) startPump() {
	p := s.pump
	if p == nil || p.running {
		return
	}
	if b, err := s.readable(); len(b) == 0 && err == nil {
		return
	}
	p.running = true
	go p.run()
}

// empty writes what there is and returns why there will be no more. Nil: there may
// be.
func (s *Session) empty(p *pump) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		b, err := s.readable()
		if err == nil && len(b) == 0 {
			p.running = false
			return nil
		}
		if err == nil {
			var n int
			n, err = s.writeOut(p.w, b)
			p.total += int64(n)
		}
		if err != nil {
			s.pump = nil
			return err
		}
	}
}

// WriteTo writes what the peer's application wrote to w until the end, straight
// from the session's memory.
func (s *Session) WriteTo(w io.Writer) (total int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		b, err := s.waitReadable()
		if err == nil {
			var n int
			n, err = s.writeOut(w, b)
			total += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// writeOut writes b to w, which is what readable has returned. The caller holds mu,
// and does not while w writes.
func (s *Session) writeOut(w io.Writer, b []byte) (int, error) {
	at := s.m.in.start
	lent := s.m.in.lend()
	s.mu.Unlock()
	n, err := w.Write(b)
	s.mu.Lock()
	s.m.in.unlend(lent)
	if s.m.in.start == at { // nobody aborted meanwhile
		s.m.in.discard(at + uint64(n))
		s.consumed()
	}
	return n, err
}

// wakeReader lets whoever reads look again. The caller holds mu.
func (s *Session) wakeReader() {
	s.reader.Broadcast()
	s.startPump()
}
