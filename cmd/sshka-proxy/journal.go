package main

import (
	"cmp"
	"time"

	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// linkJournal writes into a journal what becomes of the daemon's link. One
// goroutine of the client's calls it.
type linkJournal struct {
	j  *status.Journal
	up int // links: two for a moment, when one replaces the other
}

func (l *linkJournal) linkUp(conn *transport.Conn) {
	l.up++
	l.j.Write(status.LinkUp, "link up: %s", conn.RemoteAddr())
}

// linkLost reports whether there is another link in its place already.
func (l *linkJournal) linkLost(err *link.LostError) (replaced bool) {
	if l.up--; l.up > 0 {
		l.j.Write(status.LinkReplaced, "link replaced, the older one is closed: %s", err.Reason)
		return true
	}
	l.j.Write(status.LinkLost, "link lost: %s", err.Reason)
	return false
}

// journalBeats is a Trace that writes a link's beats into j.
func journalBeats(j *status.Journal) link.Trace {
	return link.Trace{BeatAnswered: j.BeatAnswered, BeatMissed: j.BeatMissed}
}

// journalSessions does so with what becomes of the daemon's sessions.
func journalSessions(j *status.Journal) session.Trace {
	return session.Trace{
		Opened: func(s *session.Session) { j.SessionOpened(s.ID().String(), s.Target().String()) },
		Paused: func(s *session.Session) { j.SessionPaused(s.ID().String(), s.Target().String()) },
		Resumed: func(s *session.Session, pause time.Duration, _ uint64) {
			j.SessionResumed(s.ID().String(), s.Target().String(), pause)
		},
		Ended: func(s *session.Session, _ session.Stats, err error) {
			j.SessionEnded(s.ID().String(), s.Target().String(), err)
		},
	}
}

// journalGuests does so with sessions of other processes. Of those that leave a
// daemon does not know whether they have ended.
func journalGuests(j *status.Journal) *inbound.GuestTrace {
	return &inbound.GuestTrace{
		Opened:  func(s status.Session) { j.SessionOpened(s.ID, s.Target) },
		Resumed: func(s status.Session, pause time.Duration) { j.SessionResumed(s.ID, s.Target, pause) },
		Left: func(s status.Session) {
			j.Write(status.SessionPaused, "session %s to %s: process %d has left the link, or lost it", status.ShortID(s.ID), cmp.Or(s.Target, "?"), s.PID)
		},
	}
}
