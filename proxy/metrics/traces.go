package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Proxy returns a Trace that fills the numbers and then calls next, which may be
// nil and is copied.
func (m *Metrics) Proxy(next *client.Trace) *client.Trace {
	t := client.Trace{}
	if next != nil {
		t = *next
	}
	m.link(&t.Link)
	m.session(&t.Session)
	t.Dialled = then2(func(_ time.Duration, err error) { m.dials.count(dialResult(err)) }, t.Dialled)
	t.LinkUp = then(m.linkUp, t.LinkUp)
	t.LinkLost = then(func(*link.LostError) {
		m.links.Add(-1)
		m.resetInterval() // the next link has not been slowed down
	}, t.LinkLost)
	t.NotStarted = then(func(err error) {
		if errors.Is(err, context.Canceled) {
			m.opened.count(resultCanceled)
		} else {
			m.opened.count(resultNoLink)
		}
	}, t.NotStarted)
	return &t
}

// Relay does the same for a relay.
func (m *Metrics) Relay(next *relay.Trace) *relay.Trace {
	t := relay.Trace{}
	if next != nil {
		t = *next
	}
	m.link(&t.Link)
	m.session(&t.Session)
	t.LinkUp = then(m.linkUp, t.LinkUp)
	t.LinkDown = then2(func(*transport.Conn, error) { m.links.Add(-1) }, t.LinkDown)
	t.AuthFailed = then(func(err error) { m.auth.count(authReason(err)) }, t.AuthFailed)
	t.Opened = then(func(err error) { m.opened.count(openResult(err)) }, t.Opened)
	t.LimitHit = then(func(l relay.Limit) { m.limits.count(string(l)) }, t.LimitHit)
	t.Link.LimitHit = then(func(l link.Limit) { m.limits.count(string(l)) }, t.Link.LimitHit)
	return &t
}

func (m *Metrics) linkUp(conn *transport.Conn) {
	m.links.Add(1)
	m.congestion.count(congestionControl(conn.Congestion))
}

// link fills t for every link of either role.
func (m *Metrics) link(t *link.Trace) {
	t.BeatSent = then(func(uint64) { m.beats.Inc() }, t.BeatSent)
	t.BeatMissed = then(func(int) { m.missed.Inc() }, t.BeatMissed)
	t.BeatAnswered = then(func(rtt time.Duration) { m.rtt.Observe(rtt.Seconds()) }, t.BeatAnswered)
	t.Lost = then(func(e *link.LostError) { m.lost.count(string(e.Reason)) }, t.Lost)
	if m.role == RoleProxy { // a relay has as many intervals as links
		t.SlowDown = then(func(now time.Duration) { m.intervalNow.Set(now.Seconds()) }, t.SlowDown)
	}
}

// session fills t for every session of either role.
func (m *Metrics) session(t *session.Trace) {
	t.Opened = then(func(s *session.Session) {
		m.sessions.opened(s)
		if m.role == RoleProxy { // a relay tells when it has reached the target
			m.opened.count(resultOK)
		}
	}, t.Opened)
	resumed := t.Resumed
	t.Resumed = func(s *session.Session, pause time.Duration, replayed uint64) {
		m.resumed.Inc()
		m.resume.Observe(pause.Seconds())
		m.replayed.Add(float64(replayed))
		if resumed != nil {
			resumed(s, pause, replayed)
		}
	}
	next := t.Ended
	t.Ended = func(s *session.Session, stats session.Stats, err error) {
		m.sessions.ended(s, stats)
		if m.role == RoleProxy && !stats.Opened {
			m.opened.count(openResult(err))
		} else {
			m.ended.count(endReason(err))
		}
		if next != nil {
			next(s, stats, err)
		}
	}
}

// then returns a function that calls f, and next if there is one.
func then[T any](f, next func(T)) func(T) {
	if next == nil {
		return f
	}
	return func(v T) {
		f(v)
		next(v)
	}
}

// then2 is then for functions that are told two things.
func then2[T, U any](f, next func(T, U)) func(T, U) {
	if next == nil {
		return f
	}
	return func(v T, w U) {
		f(v, w)
		next(v, w)
	}
}
