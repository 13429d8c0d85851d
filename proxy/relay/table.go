package relay

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// maxTombstones bounds what one key's ended sessions cost, and its refusals. The
	// oldest go first.
	maxTombstones = 4096
	// refusalTime is how long a refusal is remembered, should its answer have been
	// lost: a proxy asks again as soon as it has another link.
	refusalTime = time.Minute
)

// table is every session a relay knows: those it holds, and for a window those
// that have ended, so that a proxy whose last acknowledgement was lost learns
// that all is well.
type table struct {
	memory *session.Memory // of all sessions
	hit    func(Limit)

	mu     sync.Mutex // guards all below
	live   map[wire.ID]*held
	owners map[string]*holder // of live, by key
	dead   map[wire.ID]*tombstone
	graves map[plot][]*tombstone // of dead, the oldest first
}

// plot is where the tombstones of a key lie that stand equally long: so the oldest
// is the first to go. Refusals, of which a key may ask for thousands, neither wait
// behind sessions that have ended nor push them out.
type plot struct {
	owner    string
	refusals bool
}

// holder is a key that holds sessions.
type holder struct {
	sessions int
	memory   *session.Memory
}

// tombstone is what is left of a session.
type tombstone struct {
	id      wire.ID
	owner   string
	until   time.Time
	final   uint64
	refused *wire.Refused // it did not end cleanly, or its target was not reached
}

// newTable returns an empty table. hit is told when something has to go for a
// limit.
func newTable(memory int64, hit func(Limit)) *table {
	return &table{
		memory: session.NewMemory(memory, nil), hit: hit,
		live: make(map[wire.ID]*held), owners: make(map[string]*holder),
		dead: make(map[wire.ID]*tombstone), graves: make(map[plot][]*tombstone),
	}
}

// resize changes how much memory all sessions may hold.
func (t *table) resize(memory int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.memory.SetLimit(memory)
	for _, o := range t.owners {
		o.memory.SetLimit(memory / keyShare)
	}
}

// size is how many sessions are held.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live)
}

// add makes h known, or returns what is known by that id already, live or dead: a
// session is dialled at most once. room is false when the key holds as many as it
// may.
func (t *table) add(id wire.ID, h *held, perKey int) (known *held, d *tombstone, room bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.live[id]; known != nil {
		return known, nil, true
	}
	if d := t.grave(id); d != nil {
		return nil, d, true
	}
	o := t.owners[h.owner]
	switch {
	case o == nil:
		o = &holder{memory: session.NewMemory(t.memory.Limit()/keyShare, t.memory)}
		t.owners[h.owner] = o
	case o.sessions >= perKey:
		return nil, nil, false
	}
	t.live[id] = h
	o.sessions++
	h.memory = o.memory
	return nil, nil, true
}

// remove takes a session out of live. The caller holds mu.
func (t *table) remove(id wire.ID) *held {
	h := t.live[id]
	if h == nil {
		return nil
	}
	delete(t.live, id)
	o := t.owners[h.owner]
	if o.sessions--; o.sessions == 0 {
		delete(t.owners, h.owner)
	}
	return h
}

// drop forgets a session whose target was not reached, but for the answer.
func (t *table) drop(id wire.ID, refused *wire.Refused) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.remove(id); h != nil {
		t.dig(plot{h.owner, true}, &tombstone{id: id, owner: h.owner, until: time.Now().Add(refusalTime), refused: refused})
	}
}

// holds reports whether a key has sessions here.
func (t *table) holds(owner string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owners[owner] != nil
}

// ticket returns a live session's.
func (t *table) ticket(id wire.ID) (wire.Secret, keyauth.Identity, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.live[id]
	if h == nil {
		return wire.Secret{}, keyauth.Identity{}, false
	}
	who, _ := h.carrier()
	return h.secret, who, true
}

// all returns the sessions that are held now.
func (t *table) all() []*held {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.live))
}

// find tells what is known of a session.
func (t *table) find(id wire.ID) (h *held, d *tombstone) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live[id], t.grave(id)
}

// bury remembers a session that has ended for as long as a proxy may ask. err is
// how; nil is cleanly.
func (t *table) bury(id wire.ID, final uint64, err error, window time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.remove(id)
	if h == nil || window <= 0 {
		return
	}
	t.dig(plot{h.owner, false}, &tombstone{id: id, owner: h.owner, until: time.Now().Add(window), final: final, refused: unclean(err, window)})
}

// unclean is what a proxy is told of a session that ended with err, or nil.
func unclean(err error, window time.Duration) *wire.Refused {
	var reset *session.ResetError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reset):
		return &wire.Refused{Code: reset.Code, Message: reset.Message}
	case errors.Is(err, errExpired):
		return &wire.Refused{
			Code: wire.CodeExpired, Message: "the session waited longer than the relay keeps one (" + window.String() + ")",
		}
	}
	return &wire.Refused{Code: wire.CodeFailed, Message: "the session has ended"}
}

// dig adds a tombstone, and clears away those beside it that nobody asks for any
// more or that are too many. The caller holds mu.
func (t *table) dig(p plot, d *tombstone) {
	t.clear(p, maxTombstones-1)
	t.dead[d.id] = d
	t.graves[p] = append(t.graves[p], d)
}

// clear leaves at most so many tombstones of p, and none whose time is over. The
// caller holds mu.
func (t *table) clear(p plot, most int) {
	graves, now := t.graves[p], time.Now()
	for len(graves) > 0 && (len(graves) > most || now.After(graves[0].until)) {
		if !now.After(graves[0].until) {
			t.hit(LimitTombstones)
		}
		if d := graves[0]; t.dead[d.id] == d { // not of one that came by this id later
			delete(t.dead, d.id)
		}
		graves[0] = nil
		graves = graves[1:]
	}
	if t.graves[p] = graves; len(graves) == 0 {
		delete(t.graves, p)
	}
}

// sweep clears away what keys have left that are not used any more.
func (t *table) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.graves {
		t.clear(p, maxTombstones)
	}
}

// grave returns a session's tombstone while it stands, or nil. The caller holds mu.
func (t *table) grave(id wire.ID) *tombstone {
	if d := t.dead[id]; d != nil && !time.Now().After(d.until) {
		return d
	}
	return nil
}
