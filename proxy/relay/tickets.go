package relay

import (
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// maxTicketsPerKey bounds what one key costs. Programs that never come back leave
// one ticket each; the longest unused goes first.
const maxTicketsPerKey = 1024

// tickets is what a relay remembers of links, so that a later link of the same
// proxy needs no signature. In memory only: a restarted relay knows none.
type tickets struct {
	hit func(Limit)

	mu     sync.Mutex    // guards all below
	keep   time.Duration // after the last use
	byID   map[wire.ID]*ticket
	owners map[string]map[wire.ID]*ticket // by fingerprint
}

// ticket is the right to come in once more as somebody.
type ticket struct {
	id       wire.ID
	secret   wire.Secret
	identity keyauth.Identity
	parent   wire.ID   // the ticket that this one's link came in by
	links    int       // that were welcomed with it and live
	used     time.Time // when the last of them ended
}

// newTickets returns none. hit is told when one has to go for a limit.
func newTickets(keep time.Duration, hit func(Limit)) *tickets {
	return &tickets{keep: keep, hit: hit, byID: make(map[wire.ID]*ticket), owners: make(map[string]map[wire.ID]*ticket)}
}

// setKeep changes how long tickets are kept, those that are out too.
func (t *tickets) setKeep(keep time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep = keep
}

// issue returns a WELCOME for a link of id, with a ticket unless none are kept.
// The link calls ended once.
func (t *tickets) issue(id keyauth.Identity) (w *wire.Welcome, ended func(forGood bool)) {
	w = keyauth.NewWelcome()
	now := time.Now()
	n := &ticket{id: w.TicketID, secret: w.Secret, identity: id, links: 1, used: now}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep <= 0 {
		return &wire.Welcome{}, func(bool) {}
	}
	if id.Ticket == wire.TicketLink {
		n.parent = id.TicketID
		if by := t.byID[id.TicketID]; by != nil {
			by.used = now
			// The proxy has used what this one was welcomed with: what came before it
			// is not needed any more.
			t.remove(t.byID[by.parent])
		}
	}
	owned := t.owners[id.Fingerprint]
	if owned == nil {
		owned = make(map[wire.ID]*ticket)
		t.owners[id.Fingerprint] = owned
	}
	if len(owned) >= maxTicketsPerKey {
		t.makeRoom(owned, now)
	}
	t.byID[n.id], owned[n.id] = n, n
	return w, func(forGood bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		n.links--
		n.used = time.Now()
		if forGood {
			t.remove(t.byID[n.parent])
			t.remove(n)
		}
	}
}

// makeRoom drops what has expired, or else the longest unused.
func (t *tickets) makeRoom(owned map[wire.ID]*ticket, now time.Time) {
	var oldest *ticket
	for _, n := range owned {
		switch {
		case t.expired(n, now):
			t.remove(n)
		case n.links == 0 && (oldest == nil || n.used.Before(oldest.used)):
			oldest = n
		}
	}
	if len(owned) >= maxTicketsPerKey {
		t.hit(LimitTicketsPerKey)
		t.remove(oldest)
	}
}

// sweep forgets the tickets of keys that are not used any more.
func (t *tickets) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, n := range t.byID {
		if t.expired(n, now) {
			t.remove(n)
		}
	}
}

func (t *tickets) expired(n *ticket, now time.Time) bool {
	return n.links == 0 && now.Sub(n.used) > t.keep
}

// remove forgets a ticket; nil is none. The caller holds mu.
func (t *tickets) remove(n *ticket) {
	if n == nil {
		return
	}
	delete(t.byID, n.id)
	owned := t.owners[n.identity.Fingerprint]
	if delete(owned, n.id); len(owned) == 0 {
		delete(t.owners, n.identity.Fingerprint)
	}
}

// find returns a ticket that has not expired.
func (t *tickets) find(id wire.ID) (wire.Secret, keyauth.Identity, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil {
		return wire.Secret{}, keyauth.Identity{}, false
	}
	if t.expired(n, time.Now()) {
		t.remove(n)
		return wire.Secret{}, keyauth.Identity{}, false
	}
	return n.secret, n.identity, true
}
