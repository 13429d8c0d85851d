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

// Stats are counters of one end of a session.
type Stats struct {
	Sent     uint64 // bytes the application wrote
	Received uint64 // bytes stored for the application
	Acked    uint64 // bytes of Sent that the peer has stored
	Carriers uint64 // carriers so far
	Held     uint64 // bytes of Sent that are kept until the peer has stored them
	Memory   uint64 // bytes of memory for Held, and for those not read by the application
	Opened   bool   // the target was reached
	Attached bool   // bytes flow over a carrier now
}

// Stats returns the counters so far.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats()
}

func (s *Session) stats() Stats {
	return Stats{
		Sent:     s.m.out.end,
		Received: s.m.in.end,
		Acked:    min(s.m.una, s.m.out.end),
		Carriers: s.generation,
		Held:     uint64(s.m.out.len()),
		Memory:   uint64(s.m.out.charged + s.m.in.charged),
		Opened:   s.opened,
		Attached: s.opened && s.newest != nil && !s.newest.hello && !s.newest.left,
	}
}
