package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Limits bound what others may take from a relay. Zero fields mean the defaults.
type Limits struct {
	// Links is how many proxies may be linked at once (10000).
	Links int
	// Handshakes is how many connections may be in a handshake at once, and as
	// many more in a proof of their key (256). One more makes the oldest of the
	// busiest source go.
	Handshakes int
	// HandshakeTimeout bounds TLS and HELLO together (10 s).
	HandshakeTimeout time.Duration
	// LinksPerKey is how many links one key may have at once (1024).
	LinksPerKey int
	// OpensPerSecond is how many sessions one key may open in the long run (100), ten
	// times as many at once.
	OpensPerSecond int
	// DialsPerKey is how many targets one key may have dialled at once (128). More
	// wait for their turn.
	DialsPerKey int
	// SessionsPerLink is how many sessions one link may carry at once (1024).
	SessionsPerLink int
	// SessionsPerKey is how many sessions one key may hold at once, those included
	// whose link is lost (1024).
	SessionsPerKey int
	// Memory is how many bytes all sessions may hold, one key a quarter of them
	// (AutoMemory).
	Memory int64
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value *int
		zero  int
	}{{&l.Links, 10000}, {&l.Handshakes, 256}, {&l.LinksPerKey, 1024}, {&l.OpensPerSecond, 100}, {&l.DialsPerKey, 128}, {&l.SessionsPerLink, 1024}, {&l.SessionsPerKey, 1024}} {
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	if l.Memory == 0 {
		l.Memory = AutoMemory()
	}
	if l.HandshakeTimeout == 0 {
		l.HandshakeTimeout = transport.DefaultHandshakeTimeout
	}
	return l
}

// gate lets a bounded number in.
type gate chan struct{}

// enter reports whether there is room; whoever got in leaves once.
func (g gate) enter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait is enter that waits for its turn, for so long. full is told when it has to.
func (g gate) wait(ctx context.Context, most time.Duration, full func()) error {
	if g.enter() {
		return nil
	}
	full()
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		return errTooManyDials
	}
}

// errTooManyDials is why a target was not dialled.
var errTooManyDials = errors.New("too many targets of this key are being dialled")

func (g gate) leave() { <-g }

// gates are a relay's.
type gates struct {
	links                  places
	handshakes, signatures *lobby
	keys                   *people
}

// newGates returns those for l. hit is told which of them was full.
func newGates(l Limits, hit func(Limit)) *gates {
	crowded := func() { hit(LimitHandshakes) }
	g := &gates{
		handshakes: newLobby(l.Handshakes, crowded),
		signatures: newLobby(l.Handshakes, crowded),
		keys:       newPeople(l),
	}
	g.links.most.Store(int64(l.Links))
	return g
}

// resize lets other numbers in from now on. Those who are in stay.
func (g *gates) resize(l Limits) {
	g.links.most.Store(int64(l.Links))
	g.handshakes.resize(l.Handshakes)
	g.signatures.resize(l.Handshakes)
	g.keys.resize(l)
}

// places are for a bounded number.
type places struct {
	most  atomic.Int64
	taken atomic.Int64
}

// enter reports whether there is one; back is as for people.
func (p *places) enter(back bool) bool {
	n, most := p.taken.Add(1), p.most.Load()
	if n <= most || back && n <= 2*most {
		return true
	}
	p.taken.Add(-1)
	return false
}

func (p *places) leave() { p.taken.Add(-1) }

// people are the keys that have links now.
type people struct {
	mu     sync.Mutex // guards all below
	limits Limits
	in     map[string]*person
}

// person is one key with what its links share.
type person struct {
	links int  // guarded by people.mu
	room  gate // for targets being dialled; guarded by people.mu

	mu   sync.Mutex // guards full
	full time.Time  // when as many opens as the burst may come again
}

func newPeople(l Limits) *people { return &people{limits: l, in: make(map[string]*person)} }

// enter makes room for a link of key, or returns nil. back tells that it comes back
// for sessions, and may exceed the limit: the relay may not know yet that the link
// before it is dead. Who got in leaves once.
func (p *people) enter(key string, back bool) *person {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.in[key]
	if k == nil {
		k = &person{room: make(gate, p.limits.DialsPerKey)}
		p.in[key] = k
	}
	if k.links >= p.limits.LinksPerKey && (!back || k.links >= 2*p.limits.LinksPerKey) {
		return nil
	}
	k.links++
	return k
}

func (p *people) leave(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.in[key]; k != nil {
		if k.links--; k.links == 0 {
			delete(p.in, key)
		}
	}
}

// dials is what targets of a key are dialled through.
func (p *people) dials(k *person) gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return k.room
}

// resize changes the limits. Dials that are under way do not count for the new
// ones: whoever is in them leaves the gate that they came by.
func (p *people) resize(l Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.DialsPerKey != p.limits.DialsPerKey {
		for _, k := range p.in {
			k.room = make(gate, l.DialsPerKey)
		}
	}
	p.limits = l
}

// openBurst is how many seconds' worth of sessions may be opened at once: a tool
// for many hosts starts them all together.
const openBurst = 10

// opens counts one session more and returns zero, or how long to wait for it at
// perSecond of them.
func (k *person) opens(now time.Time, perSecond int) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := time.Second / time.Duration(perSecond)
	if k.full.Before(now) {
		k.full = now
	}
	if wait := k.full.Add(one).Sub(now) - openBurst*time.Second; wait > 0 {
		return wait
	}
	k.full = k.full.Add(one)
	return 0
}
