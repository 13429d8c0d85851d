package client

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/status"
)

// lostLink is the link in use that ended last.
type lostLink struct {
	at   time.Time // zero: none has
	addr string
	err  *link.LostError
}

// event returns what the status says of it, or nil.
func (l *lostLink) event() *status.Lost {
	if l.at.IsZero() {
		return nil
	}
	e := &status.Lost{Ago: status.Seconds(time.Since(l.at)), Reason: string(l.err.Reason), Address: l.addr}
	if l.err.Err != nil {
		e.Error = l.err.Err.Error()
	}
	return e
}

// remember takes the end of a link that was in use.
func (c *Client) remember(u *uplink, err *link.LostError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = lostLink{at: time.Now(), addr: u.conn.RemoteAddr().String(), err: err}
}

// Snapshot tells how the link is and which sessions this client runs. The
// process's own facts are for the caller to fill in.
func (c *Client) Snapshot() *status.Snapshot {
	c.mu.Lock()
	now, lost := c.state, c.lost
	c.mu.Unlock()
	s := &status.Snapshot{
		Schema: status.Schema, Role: "proxy", Running: true, Time: time.Now(),
		Relay: c.cfg.Dialer.Relay, LastLost: lost.event(),
	}
	if up := now.up; up != nil {
		l := up.link.Snapshot()
		l.Address, l.Agent = up.conn.RemoteAddr().String(), up.conn.Peer.Agent
		s.Links = append(s.Links, l)
	} else {
		select {
		case <-c.gone:
		default:
			s.Dialling = true
		}
	}
	if now.err != nil {
		s.DialError = &status.Event{Ago: status.Seconds(time.Since(now.failedAt)), Text: now.err.Error()}
	}
	for _, v := range c.owner.list() {
		s.Sessions = append(s.Sessions, v.Snapshot())
	}
	return s
}

// list returns the sessions that are being run.
func (o *Owner) list() []*session.Session {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]*session.Session, 0, len(o.running))
	for s := range o.running {
		all = append(all, s)
	}
	return all
}

// enter makes s one of them; leave ends that.
func (o *Owner) enter(s *session.Session) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running == nil {
		o.running = make(map[*session.Session]struct{})
	}
	o.running[s] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.running, s)
	}
}
