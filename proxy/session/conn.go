package session

import (
	"errors"
	"net"
	"time"
)

// Addr names an end of a session.
type Addr string

// Network is "sshka".
func (Addr) Network() string { return "sshka" }

// String returns the name.
func (a Addr) String() string { return string(a) }

// LocalAddr names the session.
func (s *Session) LocalAddr() net.Addr { return Addr(s.id.String()) }

// RemoteAddr is the target.
func (s *Session) RemoteAddr() net.Addr { return Addr(s.target.String()) }

// SetDeadline sets both deadlines (net.Conn).
func (s *Session) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read; the zero time is no bound.
func (s *Session) SetReadDeadline(t time.Time) error {
	return s.setDeadline(&s.readDeadline, s.wakeReader, t)
}

// SetWriteDeadline bounds Write; the zero time is no bound.
func (s *Session) SetWriteDeadline(t time.Time) error {
	return s.setDeadline(&s.writeDeadline, s.writer.Broadcast, t)
}

func (s *Session) setDeadline(d *deadline, wake func(), t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	d.set(t, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		wake()
	})
	wake()
	return nil
}

// deadline wakes a waiter when its time has come.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(t time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), wake)
	}
}
