package main

import (
	"errors"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// journaled is a Trace that writes into j what the relay's page shows.
func journaled(j *status.Journal) *relay.Trace {
	return &relay.Trace{
		Link: link.Trace{BeatAnswered: j.BeatAnswered, BeatMissed: j.BeatMissed},
		LinkUp: func(conn *transport.Conn) {
			j.Write(status.LinkUp, "link up: %s, key %s", conn.RemoteAddr(), conn.Identity.Fingerprint)
		},
		LinkDown: func(conn *transport.Conn, err error) {
			var lost *link.LostError
			why := "closed"
			if errors.As(err, &lost) {
				why = string(lost.Reason)
			}
			j.Write(status.LinkLost, "link lost: %s, %s, key %s", why, conn.RemoteAddr(), conn.Identity.Fingerprint)
		},
		Session: session.Trace{
			Opened: func(s *session.Session) { j.SessionOpened(s.ID().String(), s.Target().String()) },
			Paused: func(s *session.Session) { j.SessionPaused(s.ID().String(), s.Target().String()) },
			Resumed: func(s *session.Session, pause time.Duration, _ uint64) {
				j.SessionResumed(s.ID().String(), s.Target().String(), pause)
			},
			Ended: func(s *session.Session, _ session.Stats, err error) {
				j.SessionEnded(s.ID().String(), s.Target().String(), err)
			},
		},
	}
}
