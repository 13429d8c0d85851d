package relay

import (
	"context"
	"net/netip"
	"sync"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
)

// askedAtOnce is how many keys a new Authorizer is asked about at once.
const askedAtOnce = 8

// Reconfigure lets cfg count from now on, and changes nothing upon an error. Links
// and sessions that there are go on:
//
//   - the Dialer, Buffer and the limits of keys count for sessions opened from now on;
//   - Heartbeat, Window, UserTimeout and the limits of a link for links that come;
//   - Limits.Memory at once. Who is in beyond a limit that was lowered stays;
//   - another Authorizer for everybody, as another version of a list would:
//     those whom it does not let in are ended within seconds. It is asked about
//     all who are in first, and ctx bounds that.
//
// The Authorizer must be comparable by ==. The Transport's key and Hello, Trace and Log stay what New was given.
func (r *Relay) Reconfigure(ctx context.Context, cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	old := r.now()
	cfg.Trace, cfg.Log = old.Trace, old.Log
	hello := old.Transport.Hello
	hello.Window, hello.Features = cfg.Transport.Hello.Window, cfg.Transport.Hello.Features
	cfg.Transport.Hello, cfg.Transport.Key = hello, old.Transport.Key
	cfg.Transport.Verifier.Ticket = r.redeem
	if list := cfg.Transport.Verifier.Authorizer; list != r.authorizer() {
		if err := r.introduce(ctx, list); err != nil {
			return err
		}
	}
	r.cfg.Store(&cfg)
	r.gates.resize(cfg.Limits)
	r.held.resize(cfg.Limits.Memory)
	r.tickets.setKeep(cfg.Window)
	return nil
}

// introduce asks a new Authorizer about everybody who is in: it may know nobody of
// whom it has not been asked, and would have all of them ended.
func (r *Relay) introduce(ctx context.Context, list keyauth.Authorizer) error {
	if l, ok := list.(keyauth.Rechecker); ok {
		l.Version()
	}
	type guest struct{ key, addr string }
	asked := make(map[guest]bool)
	places := make(gate, askedAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := func(who keyauth.Identity, from netip.Addr) error {
		if who.Key == nil {
			return nil
		}
		g := guest{string(who.Key.Marshal()), from.String()}
		if asked[g] {
			return nil
		}
		asked[g] = true
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wg.Go(func() {
			defer places.leave()
			list.Authorize(who.Key, from)
		})
		return nil
	}
	for _, p := range r.links.all() {
		if err := ask(p.conn.Identity, p.conn.Addr); err != nil {
			return err
		}
	}
	for _, h := range r.held.all() {
		if err := ask(h.carrier()); err != nil {
			return err
		}
	}
	return nil
}
