package session

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/status"
)

// Snapshot tells how the session is. The caller fills in whose it is.
func (s *Session) Snapshot() status.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	stats := s.stats()
	v := status.Session{
		ID:       s.id.String(),
		Target:   s.target.String(),
		Age:      status.Seconds(now.Sub(s.born)),
		ToTarget: stats.Sent,
		ToClient: stats.Received,
		Replay:   stats.Held,
		Pauses:   max(1, stats.Carriers) - 1,
	}
	if s.relay {
		v.ToTarget, v.ToClient = stats.Received, stats.Sent
	}
	since := s.born
	switch {
	case s.m.failure != nil:
		v.State, since = status.Ending, s.failedAt
	case stats.Attached:
		v.State, since = status.Attached, s.attachedAt
	case s.opened:
		v.State, since = status.Detached, s.paused
	default:
		v.State = status.Opening
	}
	v.Since = status.Seconds(now.Sub(since))
	return v
}
