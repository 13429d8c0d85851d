package relay

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// recheckTick is how often a relay looks whether somebody has lost the right
	// to be here.
	recheckTick = 2 * time.Second
	// recheckAll is how often it asks about everybody, even if nothing seems to
	// have changed.
	recheckAll = time.Minute

	revokedText = "the key is no longer authorized"
)

// errRevoked is why a session or a link ended whose owner is not authorized any
// more.
var errRevoked = errors.New(revokedText)

// links are those that are up.
type links struct {
	mu sync.Mutex // guards up
	up map[*peer]struct{}
}

func (l *links) add(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up == nil {
		l.up = make(map[*peer]struct{})
	}
	l.up[p] = struct{}{}
}

func (l *links) remove(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.up, p)
}

func (l *links) all() []*peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.up))
}

// watchKeys ends links and sessions whose key is not authorized any more, within
// seconds of that.
func (r *Relay) watchKeys(ctx context.Context) {
	ticker := time.NewTicker(recheckTick)
	defer ticker.Stop()
	var was *Config // as everybody was asked about
	var version uint64
	var asked time.Time   // when all were asked about
	var expires time.Time // when the first line does; zero: none
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		cfg := r.now()
		list, ok := cfg.Transport.Verifier.Authorizer.(keyauth.Rechecker)
		if !ok {
			continue
		}
		v := list.Version()
		now := time.Now()
		expired := !expires.IsZero() && !now.Before(expires)
		if cfg != was || v != version || expired || now.Sub(asked) >= recheckAll {
			was, version, asked, expires = cfg, v, now, r.recheck()
		}
	}
}

// recheck asks about everybody. It returns when the first of those lines expires
// that let somebody in; zero: none does.
func (r *Relay) recheck() time.Time {
	var next time.Time
	// Sessions first: what they tell goes over the links.
	for _, h := range r.held.all() {
		next = earlier(next, r.recheckSession(h))
	}
	for _, p := range r.links.all() {
		next = earlier(next, r.recheckLink(p))
	}
	return next
}

// earlier returns the earlier of two times of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// recheckLink turns p out if its key is not authorized any more, and else returns
// when its line expires.
func (r *Relay) recheckLink(p *peer) time.Time {
	grant, ok := r.grantOf(p.conn.Identity, p.conn.Addr)
	if !ok {
		if p.turnedOut.CompareAndSwap(false, true) {
			p.log.Warn("link ended", "reason", "revoked")
		}
		p.turnOut(errRevoked)
	}
	return grant.Until
}

// recheckSession ends h if the key of its last link is not authorized any more.
func (r *Relay) recheckSession(h *held) time.Time {
	who, from := h.carrier()
	grant, ok := r.grantOf(who, from)
	if ok {
		return grant.Until
	}
	select {
	case <-h.reached:
	default: // still being dialled: looked at again then
		return time.Time{}
	}
	if h.s != nil {
		h.end(wire.CodeRevoked, revokedText, errRevoked)
	}
	return time.Time{}
}

// grantOf is what somebody who was let in may do now. An Authorizer that cannot
// say so has said it once and for all.
func (r *Relay) grantOf(who keyauth.Identity, from netip.Addr) (keyauth.Grant, bool) {
	if list, ok := r.authorizer().(keyauth.Rechecker); ok {
		return list.Recheck(who.Key, from)
	}
	return who.Grant, true
}

// grantNow is grantOf as of this moment.
func (r *Relay) grantNow(who keyauth.Identity, from netip.Addr) (keyauth.Grant, bool) {
	if list, ok := r.authorizer().(keyauth.Rechecker); ok {
		list.Version()
	}
	return r.grantOf(who, from)
}
