package inbound

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/status"
)

// guestTime is how long a session is remembered that neither has a carrier nor
// waits for one: its process may be about to ask again.
const guestTime = time.Minute

// GuestTrace is a set of functions that a Socket calls when something happens to a
// session of another process. Each may be nil. They must not block and must not
// call the Socket.
type GuestTrace struct {
	// Opened: it has its first carrier.
	Opened func(status.Session)
	// Resumed: it has another one, pause after it lost its last.
	Resumed func(s status.Session, pause time.Duration)
	// Left: it has none any more. Either it has ended, or it will ask for another.
	Left func(status.Session)
}

// guests are the sessions of other processes that use this one's link. The zero
// guests are none.
type guests struct {
	trace *GuestTrace // of the Socket

	mu  sync.Mutex // guards all, and those fields of each that are not atomic
	all map[string]*guest
}

// guest is one such session, as far as a daemon sees it.
type guest struct {
	id, target string
	pid        int
	born       time.Time
	since      time.Time // when it got, or lost, its last carrier
	carriers   uint64    // so far
	live       int       // of them now
	waiting    int       // requests for one

	toTarget, toClient atomic.Uint64 // bytes of its carriers
}

// enter takes a request for a carrier; leave ends what becomes of it. A session
// without a name is nobody's guest, and its guest is nil.
func (g *guests) enter(req *request) (_ *guestCarrier, leave func()) {
	if req.Session == "" {
		return nil, func() {}
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.all[req.Session]
	if v == nil {
		for id, old := range g.all {
			if old.live+old.waiting == 0 && (now.Sub(old.since) > guestTime || len(g.all) >= maxSocketConns) {
				delete(g.all, id)
			}
		}
		if g.all == nil {
			g.all = make(map[string]*guest)
		}
		v = &guest{id: req.Session, target: req.Target, born: now, since: now}
		g.all[v.id] = v
	}
	v.pid = req.PID
	v.waiting++
	c := &guestCarrier{all: g, guest: v}
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !c.got {
			v.waiting--
			return
		}
		if v.live--; v.live == 0 {
			v.since = time.Now()
			if g.trace != nil && g.trace.Left != nil {
				g.trace.Left(v.status())
			}
		}
	}
}

// list returns what is known of them.
func (g *guests) list() []status.Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	list := make([]status.Session, 0, len(g.all))
	for _, v := range g.all {
		s := v.status()
		s.Age, s.Since = status.Seconds(now.Sub(v.born)), status.Seconds(now.Sub(v.since))
		switch {
		case v.live > 0:
			s.State = status.Attached
		case v.waiting == 0:
			continue // has ended, or is about to ask again
		case v.carriers > 0:
			s.State = status.Detached
		default:
			s.State = status.Opening
		}
		list = append(list, s)
	}
	return list
}

// status is what is known of v but for its state and times.
func (v *guest) status() status.Session {
	return status.Session{
		ID: v.id, Target: v.target, PID: v.pid,
		ToTarget: v.toTarget.Load(), ToClient: v.toClient.Load(),
		Pauses: max(1, v.carriers) - 1,
	}
}

// guestCarrier is one request of a guest's, and the carrier that it got.
type guestCarrier struct {
	*guest
	all *guests
	got bool
}

// carried returns conn with its bytes counted.
func (c *guestCarrier) carried(conn splice.Conn) splice.Conn {
	if c == nil {
		return conn
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.got = true
	c.waiting--
	c.carriers++
	if c.live++; c.live == 1 {
		pause := time.Since(c.since)
		c.since = time.Now()
		c.tell(pause)
	}
	return countedConn{conn, c.guest}
}

// tell tells of the guest's carrier. The caller holds mu.
func (c *guestCarrier) tell(pause time.Duration) {
	switch t := c.all.trace; {
	case t == nil:
	case c.carriers == 1 && t.Opened != nil:
		t.Opened(c.status())
	case c.carriers > 1 && t.Resumed != nil:
		t.Resumed(c.status(), pause)
	}
}

// countedConn is the daemon's end of a guest's carrier.
type countedConn struct {
	splice.Conn
	guest *guest
}

// Read reads what goes to the client.
func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.guest.toClient.Add(uint64(max(0, n)))
	return n, err
}

// Write writes what comes from it.
func (c countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.guest.toTarget.Add(uint64(max(0, n)))
	return n, err
}

// Sessions returns the sessions of other processes that use the daemon's link, or
// wait for it.
func (s *Socket) Sessions() []status.Session { return s.guests.list() }
