package relay

import (
	"errors"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// shortWindow is how long a session is kept whose carrier ended while its link
// lived: its owner was killed.
const shortWindow = 60 * time.Second

// errExpired is why a session ended that nobody came back for.
var errExpired = errors.New("nobody came back for the session in time")

// held is a session that this relay holds, attached or not.
type held struct {
	owner   string // the fingerprint of the key it belongs to
	who     keyauth.Identity
	secret  wire.Secret   // its ticket's
	reached chan struct{} // closed when the dial has ended
	s       *session.Session

	mu     sync.Mutex // guards all below
	turn   int        // counts carriers
	timer  *time.Timer
	ending bool // the relay shuts down
}

// attached stops the clock of a detached session.
func (h *held) attached() (turn int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turn++
	if h.timer != nil && !h.ending {
		h.timer.Stop()
	}
	return h.turn
}

// detached starts it, unless a newer carrier has come.
func (h *held) detached(turn int, window time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if turn != h.turn {
		return
	}
	if window <= 0 || h.ending {
		h.s.Abandon(errExpired)
		return
	}
	h.timer = time.AfterFunc(window, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if turn == h.turn {
			h.s.Abandon(errExpired)
		}
	})
}

// farewellTime is how long an attached session may take to tell that the relay
// ends.
const farewellTime = farewell / 2

// shutDown ends the session with the relay.
func (h *held) shutDown() {
	h.s.Reset(wire.CodeShuttingDown, "the relay shuts down")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(farewellTime, func() { h.s.Abandon(errExpired) }) // nobody is there to be told
}

// What is known of a session.
type sessionState int

const (
	sessionUnknown sessionState = iota
	sessionLive
	sessionEnded
	sessionExpired
)

// table is every session a relay knows: those it holds, and for a window those
// that have ended, so that a proxy whose last acknowledgement was lost learns
// that all is well.
type table struct {
	mu     sync.Mutex // guards all below
	live   map[wire.ID]*held
	dead   map[wire.ID]tombstone
	owners map[string]int // how many of live each key has
}

// tombstone is what is left of a session.
type tombstone struct {
	owner   string
	final   uint64
	expired bool
	timer   *time.Timer
}

func newTable() *table {
	return &table{live: make(map[wire.ID]*held), dead: make(map[wire.ID]tombstone), owners: make(map[string]int)}
}

// add makes h known, or returns what is known by that id already: a session is
// dialled at most once. room is false when its key holds as many as it may.
func (t *table) add(id wire.ID, h *held, perKey int) (known *held, room bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.live[id]; known != nil {
		return known, true
	}
	if t.owners[h.owner] >= perKey {
		return nil, false
	}
	t.live[id] = h
	t.owners[h.owner]++
	return nil, true
}

// remove takes a session out of live. The caller holds mu.
func (t *table) remove(id wire.ID) *held {
	h := t.live[id]
	if h == nil {
		return nil
	}
	delete(t.live, id)
	if t.owners[h.owner]--; t.owners[h.owner] == 0 {
		delete(t.owners, h.owner)
	}
	return h
}

// drop forgets a session whose target was not reached.
func (t *table) drop(id wire.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(id)
}

// ticket returns a live session's.
func (t *table) ticket(id wire.ID) (wire.Secret, keyauth.Identity, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.live[id]
	if h == nil {
		return wire.Secret{}, keyauth.Identity{}, false
	}
	return h.secret, h.who, true
}

// find tells what is known of a session.
func (t *table) find(id wire.ID) (h *held, final uint64, state sessionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.live[id]; h != nil {
		return h, 0, sessionLive
	}
	d, ok := t.dead[id]
	switch {
	case !ok:
		return nil, 0, sessionUnknown
	case d.expired:
		return &held{owner: d.owner}, 0, sessionExpired
	}
	return &held{owner: d.owner}, d.final, sessionEnded
}

// bury remembers a session that has ended for as long as a proxy may ask.
func (t *table) bury(id wire.ID, final uint64, window time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.remove(id)
	if h == nil || window <= 0 {
		return
	}
	d := tombstone{owner: h.owner, final: final, expired: errors.Is(h.s.Err(), errExpired)}
	d.timer = time.AfterFunc(window, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.dead, id)
	})
	t.dead[id] = d
}

// close forgets the dead, so that nothing is left running.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, d := range t.dead {
		d.timer.Stop()
		delete(t.dead, id)
	}
}
