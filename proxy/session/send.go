package session

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// carrier is one attachment: a carrier, its place in the row of them, and its
// sender. That is a goroutine which runs only while there is something to send: of
// thousands of sessions most are idle. The session's mu guards it.
type carrier struct {
	io.ReadWriteCloser
	generation uint64
	hello      bool // has not been answered yet
	left       bool // receive has ended
	toldLeft   bool // that the target has left

	active  bool // bytes flow: there may be a sender
	sending bool // there is one
	silent  bool // there will be none any more
	sendErr error
	senders sync.WaitGroup
}

// errLeft ends the sender when receive has ended.
var errLeft = errors.New("carrier left")

// kick lets the newest carrier's sender look again. The caller holds mu.
func (s *Session) kick() {
	a := s.newest
	if a == nil || !a.active || a.sending || a.silent {
		return
	}
	if s.m.wants(s.ackDue) || s.m.over() || s.leftUntold(a) {
		s.startSender(a)
		return
	}
	s.armAck()
}

// startSender starts a's sender, unless it runs or is not to. The caller holds mu.
func (s *Session) startSender(a *carrier) {
	if a == nil || !a.active || a.sending || a.silent {
		return
	}
	a.sending = true
	a.senders.Go(func() { s.send(a) })
}

// hush is the end of a's last sender. The caller holds mu.
func (a *carrier) hush(err error) {
	a.sending, a.silent, a.sendErr = false, true, err
	a.Close() // ends receive
}

// send writes frames to a until there are none.
func (s *Session) send(a *carrier) {
	for {
		buf := s.nextFrames(a)
		if buf == nil {
			return
		}
		_, err := a.Write(*buf)
		freeFrames(buf)
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.untold(a)
			a.hush(fmt.Errorf("write to carrier: %w", err))
			return
		}
	}
}

// untold takes back that the peer was told of what is stored, when the carrier
// would not take it: the proxy's end comes back to tell, since the relay would wait
// for a window. The relay's end leaves it to the tombstone. The caller holds mu.
func (s *Session) untold(a *carrier) {
	if s.newest == a && !s.relay {
		s.m.toldReceived = 0
	}
}

// Sizes of the buffers that frames are written from: a keystroke and an
// acknowledgement fit into a small one.
const (
	smallFrames = 2 << 10
	smallData   = smallFrames - 512 // of DATA, so that what goes with it fits in, too
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, 0, smallFrames); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, wire.MaxFrame); return &b }}
)

func takeFrames(large bool) *[]byte {
	pool := &smallBuffers
	if large {
		pool = &largeBuffers
	}
	buf, _ := pool.Get().(*[]byte)
	*buf = (*buf)[:0]
	return buf
}

func freeFrames(buf *[]byte) {
	if cap(*buf) < wire.MaxFrame {
		smallBuffers.Put(buf)
	} else {
		largeBuffers.Put(buf)
	}
}

// leftUntold reports whether a's peer is to be told that the target has left. The
// caller holds mu.
func (s *Session) leftUntold(a *carrier) bool {
	return s.relay && s.targetLeft != 0 && !a.toldLeft
}

// nextFrames returns what a is to send now in a pooled buffer. Nil: there is
// nothing, and the sender has ended, for now or for good.
func (s *Session) nextFrames(a *carrier) *[]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.newest == nil:
		a.hush(errLeft)
		return nil
	case s.newest != a:
		s.sayMoved(a)
		a.hush(ErrMoved)
		return nil
	}
	buf := takeFrames(s.m.sendable() > smallData)
	if s.leftUntold(a) {
		a.toldLeft = true
		*buf = wire.Append(*buf, &wire.TargetLeft{Detached: s.targetLeft})
	}
	s.m.grow(time.Now())
	*buf = s.m.frames(*buf, s.ackDue)
	if len(*buf) > 0 {
		s.ackDue = false
		s.writer.Broadcast() // what is sent makes room
		return buf
	}
	freeFrames(buf)
	switch {
	case s.m.over():
		s.finish()
		s.wake()
		a.hush(nil)
	case a.left:
		a.hush(errLeft)
	default:
		a.sending = false
		s.armAck()
	}
	return nil
}

// armAck starts the timer that lets an acknowledgement go without data. The
// caller holds mu.
func (s *Session) armAck() {
	if s.ackArmed || !s.m.ackWanted() {
		return
	}
	s.ackArmed = true
	if s.ackTimer == nil {
		s.ackTimer = time.AfterFunc(ackDelay, s.ackTimeout)
	} else {
		s.ackTimer.Reset(ackDelay)
	}
}

func (s *Session) ackTimeout() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackArmed = false
	if s.m.ackWanted() {
		s.ackDue = true
		s.kick()
	}
}

// sayMoved tells the other end of a carrier that has been left, best effort.
// The caller holds mu and gets it back.
func (s *Session) sayMoved(a *carrier) {
	moved := wire.Append(nil, &wire.Moved{Generation: s.generation})
	s.mu.Unlock()
	defer s.mu.Lock()
	t := time.AfterFunc(partingTime, func() { a.Close() })
	defer t.Stop()
	_, _ = a.Write(moved)
}
