package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// partingTime is how long the last word on a carrier may take: MOVED, or a RESET
// after a violation.
const partingTime = time.Second

// Attach carries the proxy's end of the session over c until c fails, a newer
// carrier takes over, the session ends or ctx is done. It owns c and has closed
// it when it returns. instance is the relay process at c's other end: the first
// one holds the session, and a carrier to another ends it. Attach returns nil
// only when the session has ended (Err tells how), ErrMoved after a newer
// carrier's start, a *RefusedError when the relay will not resume, else why c
// ended.
func (s *Session) Attach(ctx context.Context, c io.ReadWriteCloser, instance wire.ID) error {
	return s.carry(ctx, c, func() (*carrier, error) {
		s.mu.Lock()
		a := s.newCarrier(c, s.generation+1)
		if s.generation == 1 {
			s.instance = instance
		}
		holder := s.instance
		opened := s.opened
		limit := s.m.promise()
		received := s.m.received
		var hello wire.Message
		if opened {
			hello = &wire.Resume{ID: s.id, Generation: a.generation, Received: received, Limit: limit, Instance: holder}
		} else {
			hello = &wire.Open{ID: s.id, Generation: a.generation, Limit: limit, Target: s.target, Early: s.m.early()}
		}
		s.mu.Unlock()
		if holder != instance {
			s.restarted()
			return nil, nil
		}

		if _, err := c.Write(wire.Append(nil, hello)); err != nil {
			return a, err
		}
		reply, err := wire.Read(c)
		if err != nil {
			return a, err
		}
		switch reply := reply.(type) {
		case *wire.OK:
			s.mu.Lock()
			s.secret = reply.Secret
			s.mu.Unlock()
			return a, s.attached(a, reply.Received, reply.Limit, received, limit)
		case *wire.Refused:
			refused := &RefusedError{Refused: *reply}
			if !opened {
				s.Abandon(refused)
				return nil, nil
			}
			return a, refused
		}
		return a, wire.Unexpected(reply)
	})
}

// restarted ends the session: the process that held it is gone.
func (s *Session) restarted() {
	s.Abandon(&RefusedError{Refused: wire.Refused{
		Code: wire.CodeUnknown, Message: "the relay was restarted, which ended the session",
	}})
}

// Answer carries the relay's end of the session over the carrier of r, which
// asked for it. It answers OK with the ticket's secret, then does and returns as
// Attach.
func (s *Session) Answer(ctx context.Context, r *Request, secret wire.Secret) error {
	return s.carry(ctx, r.c, func() (*carrier, error) {
		var generation, received, limit uint64
		if r.Open != nil {
			generation, limit = r.Open.Generation, r.Open.Limit
		} else {
			generation, received, limit = r.Resume.Generation, r.Resume.Received, r.Resume.Limit
		}
		s.mu.Lock()
		if generation <= s.generation {
			s.mu.Unlock()
			return nil, ErrMoved
		}
		a := s.newCarrier(r.c, generation)
		ok := &wire.OK{Received: s.m.received, Limit: s.m.promise(), Secret: secret}
		s.mu.Unlock()

		if _, err := r.c.Write(wire.Append(nil, ok)); err != nil {
			return a, err
		}
		return a, s.attached(a, received, limit, ok.Received, ok.Limit)
	})
}

// newCarrier makes the newest attachment and fences the one before. The caller
// holds mu.
func (s *Session) newCarrier(c io.ReadWriteCloser, generation uint64) *carrier {
	old := s.newest
	if old != nil && old.hello {
		old.Close()
	}
	s.generation = generation
	s.pause()
	s.newest = &carrier{ReadWriteCloser: c, generation: generation, hello: true}
	s.startSender(old) // it says that it was left
	return s.newest
}

// carry runs one carrier: the hello, then frames both ways.
func (s *Session) carry(ctx context.Context, c io.ReadWriteCloser, hello func() (*carrier, error)) error {
	defer c.Close()
	if s.ended() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()

	a, err := hello()
	if a != nil && err == nil {
		err = s.exchange(a)
	}
	if errors.Is(err, wire.ErrProtocol) { // if not said already
		s.Reset(wire.CodeProtocol, err.Error())
	}
	if s.ended() {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if a != nil && s.fenced(a) {
		return ErrMoved // however it ended, a newer one has its place
	}
	return err
}

// fenced reports whether a newer carrier has started.
func (s *Session) fenced(a *carrier) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.generation < s.generation
}

// ended reports whether Done is closed.
func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// attached lets bytes flow over a.
func (s *Session) attached(a *carrier, received, limit, saidReceived, saidLimit uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest != a {
		return ErrMoved
	}
	before := min(s.m.next, s.m.out.end)
	if err := s.m.attached(received, limit, saidReceived, saidLimit); err != nil {
		return err
	}
	a.hello = false
	switch {
	case !s.opened:
		s.opened = true
		if s.trace.Opened != nil {
			s.trace.Opened(s)
		}
	case s.trace.Resumed != nil:
		s.trace.Resumed(s, time.Since(s.paused), before-min(s.m.next, before))
	}
	s.paused, s.attachedAt = time.Time{}, time.Now()
	if s.linger != nil {
		s.linger.Reset(s.patience())
	}
	s.release(s.ready)
	s.wake()
	return nil
}

// pause remembers since when no bytes flow. The caller holds mu.
func (s *Session) pause() {
	s.m.detached = s.opened
	if s.opened && s.paused.IsZero() {
		s.paused = time.Now()
		if s.trace.Paused != nil && s.m.failure == nil && !s.m.over() {
			s.trace.Paused(s)
		}
	}
}

// exchange moves frames both ways until a fails, is left or the session ends.
func (s *Session) exchange(a *carrier) error {
	if s.trace.Attached != nil {
		s.trace.Attached(a.generation)
	}
	s.mu.Lock()
	a.active = true
	s.startSender(a)
	s.mu.Unlock()
	err := s.receive(a)
	if errors.Is(err, wire.ErrProtocol) {
		s.Reset(wire.CodeProtocol, err.Error())
		t := time.AfterFunc(partingTime, func() { a.Close() })
		defer t.Stop()
	} else {
		a.Close()
	}

	s.mu.Lock()
	a.left = true // ends the sender, once it has nothing more to say
	if s.newest == a {
		s.pause()
	}
	s.wake()
	s.startSender(a)
	s.mu.Unlock()
	a.senders.Wait()
	s.mu.Lock()
	if s.m.over() {
		s.finish()
		s.wake()
	}
	s.mu.Unlock()

	if a.sendErr != nil && !errors.Is(a.sendErr, errLeft) {
		err = a.sendErr
	}
	if s.ended() {
		err = nil
	}
	if s.trace.Detached != nil {
		s.trace.Detached(a.generation, err)
	}
	return err
}

// receive takes frames from the carrier until it ends.
func (s *Session) receive(a *carrier) error {
	for {
		h, err := wire.ReadHeader(a)
		if err != nil {
			return lost(err)
		}
		if h.Type == wire.TypeData {
			if err := s.receiveData(a, h.Length); err != nil {
				return lost(err)
			}
			continue
		}
		m, err := wire.ReadBody(a, h)
		if err != nil {
			return lost(err)
		}
		switch m := m.(type) {
		case nil:
			continue
		case *wire.Moved:
			return ErrMoved
		case *wire.TargetLeft:
			if s.relay {
				return wire.Unexpected(m)
			}
			s.mu.Lock()
			s.targetLeft = max(m.Detached, 1)
			s.mu.Unlock()
			continue
		}
		if err := s.take(a, func() error { return s.m.handle(m) }); err != nil {
			return err
		}
	}
}

// A lender is a carrier that can be read without a copy: Borrow returns at most n bytes,
// which are the caller's until it reads or borrows again, or an error.
type lender interface {
	Borrow(n int) ([]byte, error)
}

// copied lends what it reads.
type copied struct {
	io.Reader
	buf []byte
}

// Borrow reads.
func (c *copied) Borrow(n int) ([]byte, error) {
	n, err := c.Read(c.buf[:min(n, len(c.buf))])
	if n > 0 {
		err = nil // comes again
	}
	return c.buf[:n], err
}

var dataBuffers = sync.Pool{New: func() any { return &copied{buf: make([]byte, wire.MaxData)} }}

// lender returns the carrier as one. free is to be called after its last use.
func (a *carrier) lender() (l lender, free func()) {
	from := a.ReadWriteCloser
	if w, ok := from.(*watched); ok && w.taken {
		from = w.ReadWriteCloser
	}
	if l, ok := from.(lender); ok {
		return l, func() {}
	}
	c, _ := dataBuffers.Get().(*copied)
	c.Reader = a
	return c, func() {
		c.Reader = nil
		dataBuffers.Put(c)
	}
}

// receiveData stores a DATA frame's bytes as they arrive: on a slow line a frame
// takes seconds, and the sender wants to hear of every part.
func (s *Session) receiveData(a *carrier, length int) error {
	offset, n, err := wire.ReadDataPrefix(a, length)
	if err != nil {
		return err
	}
	l, free := a.lender()
	defer free()
	for n > 0 {
		b, err := l.Borrow(n)
		if err != nil {
			return err
		}
		if err := s.take(a, func() error { return s.m.store(offset, b) }); err != nil {
			return err
		}
		offset += uint64(len(b))
		n -= len(b)
	}
	return nil
}

// take lets the machine take what arrived, if a is still the newest carrier, and
// wakes whoever may go on.
func (s *Session) take(a *carrier, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest != a {
		return ErrMoved
	}
	err := f()
	s.wake()
	return err
}

// lost turns an end of the carrier into an error: only frames end a session.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("carrier lost: %w", err)
}
