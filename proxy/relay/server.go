package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Config is how a relay works. Transport and Dialer are required.
type Config struct {
	// Transport authenticates proxies. Its Hello.Instance and its Verifier's Ticket
	// are filled in. If the Verifier's Authorizer is a keyauth.Rechecker, links and
	// sessions of keys that are no longer authorized end within seconds.
	Transport *transport.Server
	// Dialer reaches targets.
	Dialer *Dialer
	// Heartbeat keeps links warm from this end. Zero fields mean RelayPolicy's.
	Heartbeat heartbeat.Policy
	// Buffer bounds what a session holds per direction, in bytes. Zero means
	// session.DefaultBuffer.
	Buffer int
	// Window is how long a session is kept whose link is lost. Zero: it ends with
	// its link.
	Window time.Duration
	// Limits bound what others may take.
	Limits Limits
	// Trace is told what happens; nil is told nothing.
	Trace *Trace
	// Log is for a person; nil discards.
	Log *slog.Logger
}

// RelayPolicy is the heartbeat of a zero Config: a relay leaves the beating to
// the proxies, whose side the NATs are on.
var RelayPolicy = heartbeat.Policy{Interval: 60 * time.Second, Timeout: 15 * time.Second, CountMax: 3}

// Trace is a set of functions that a relay calls when something happens. Each
// may be nil. They must not block.
type Trace struct {
	// Link is given to every link.
	Link link.Trace
	// Session is given to every session whose target was reached.
	Session session.Trace
	// LinkUp: a proxy has been let in. LinkDown: its link has ended.
	LinkUp, LinkDown func()
	// AuthFailed: a proxy was not let in.
	AuthFailed func(err error)
	// Opened: a session's target was reached (nil), or it was refused: a
	// *DialError, or a *session.RefusedError where no target was dialled.
	Opened func(err error)
	// Ended: a session has ended.
	Ended func(stats session.Stats, err error)
	// LimitHit: one of the Limits was hit, or another that a key has. Link.LimitHit is
	// told of what a link limits by itself. It must not call the relay.
	LimitHit func(Limit)
}

// Relay accepts links and carries their sessions to targets.
type Relay struct {
	cfg   Config
	gates *gates
	tasks sync.WaitGroup
	held  *table

	roster roster

	tickets    *tickets
	authorizer keyauth.Authorizer
	links      links // that are up
}

// New returns a relay.
func New(cfg Config) (*Relay, error) {
	if cfg.Transport == nil || cfg.Dialer == nil {
		return nil, errors.New("relay needs a transport and a dialer")
	}
	if cfg.Heartbeat.Interval == 0 {
		cfg.Heartbeat.Interval = RelayPolicy.Interval
	}
	if cfg.Heartbeat.Timeout == 0 {
		cfg.Heartbeat.Timeout = RelayPolicy.Timeout
	}
	if err := cfg.Heartbeat.Validate(); err != nil {
		return nil, err
	}
	if cfg.Trace == nil {
		cfg.Trace = &Trace{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	server := *cfg.Transport
	server.HandshakeTimeout = cfg.Limits.HandshakeTimeout
	_, _ = rand.Read(server.Hello.Instance[:]) // never fails
	if server.Hello.Window = cfg.Window; cfg.Window > 0 {
		server.Hello.Features |= wire.FeatureResume
	}
	verifier := *server.Verifier
	server.Verifier = &verifier
	cfg.Transport = &server
	r := &Relay{cfg: cfg, authorizer: verifier.Authorizer}
	r.gates = newGates(cfg.Limits, r.hit)
	r.held = newTable(cfg.Limits.Memory, r.hit)
	r.tickets = newTickets(cfg.Window, r.hit)
	verifier.Ticket = r.redeem
	return r, nil
}

// Serve accepts links on the listeners until ctx is done or a listener fails,
// and returns when all links have ended. It closes the listeners.
func (r *Relay) Serve(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	failed := make(chan error, len(listeners))
	r.tasks.Go(func() { r.watchMemory(ctx) })
	r.tasks.Go(func() { r.watchKeys(ctx) })
	for _, ln := range listeners {
		stop := context.AfterFunc(ctx, func() { ln.Close() })
		defer stop()
		r.tasks.Go(func() {
			err := r.accept(ctx, ln)
			if ctx.Err() == nil {
				cancel(err)
			}
			failed <- err
		})
	}
	<-ctx.Done()
	r.tasks.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// accept takes connections. An error that passes, such as too many open files,
// is waited out.
func (r *Relay) accept(ctx context.Context, ln net.Listener) error {
	const pause = 50 * time.Millisecond
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listen on %s: %w", ln.Addr(), err)
		default:
			r.cfg.Log.Warn("accept failed, trying on", "address", ln.Addr().String(), "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		s := r.gates.handshakes.enter(conn)
		if s == nil {
			conn.Close()
			r.notLetIn(ctx, conn, errCrowded)
			continue
		}
		r.tasks.Go(func() { r.serveConn(ctx, s) })
	}
}

// serveConn carries one connection from its handshake to its end.
func (r *Relay) serveConn(ctx context.Context, s *stranger) {
	// The handshake's goroutine has grown its stack; a link lives for days on a
	// fresh one.
	in, err := r.handshake(ctx, s)
	if err != nil {
		r.notLetIn(ctx, s.conn, err)
		return
	}
	r.tasks.Go(func() { r.serveLink(ctx, in) })
}

// errCrowded is why a connection had to go before it was known.
var errCrowded = &keyauth.VerifyError{Reason: keyauth.ReasonBusy, Err: errors.New("too many handshakes at once")}

func (r *Relay) notLetIn(ctx context.Context, raw net.Conn, err error) {
	r.cfg.Log.Debug("not let in", "remote", raw.RemoteAddr().String(), "error", err)
	if r.cfg.Trace.AuthFailed != nil && ctx.Err() == nil {
		r.cfg.Trace.AuthFailed(err)
	}
}

// guest is a proxy that has been let in.
type guest struct {
	*transport.Conn
	person *person
	leave  func(forGood bool) // gives back what it was admitted with
}

// handshake authenticates in two lobbies: one for strangers, another for those who
// may be looking for a key to touch.
func (r *Relay) handshake(ctx context.Context, s *stranger) (*guest, error) {
	room := r.gates.handshakes
	defer func() { room.leave(s) }()
	g := &guest{}
	door := transport.Door{
		Picked: func() {
			if next := r.gates.signatures.enter(s.conn); next != nil {
				room.leave(s)
				room, s = r.gates.signatures, next
			}
		},
		Admit: func(id keyauth.Identity) (*wire.Welcome, *wire.Denied) {
			return r.admit(g, id)
		},
	}
	var err error
	if g.Conn, err = r.cfg.Transport.Handshake(ctx, s.conn, door); err != nil {
		if g.leave != nil { // did not hear that it was welcome
			g.leave(false)
		}
		if room.turnedOut(s) {
			err = errCrowded
		}
		return nil, err
	}
	return g, nil
}

// admit makes room for a link of id, and hands out a ticket for the next.
func (r *Relay) admit(g *guest, id keyauth.Identity) (w *wire.Welcome, denied *wire.Denied) {
	busy := func(l Limit, why string) *wire.Denied {
		r.hit(l)
		r.cfg.Log.Warn("link refused", "key", id.Fingerprint, "reason", why)
		return &wire.Denied{Code: wire.CodeBusy, RetryAfter: busyRetry, Message: why}
	}
	back := r.held.holds(id.Fingerprint)
	if !r.gates.links.enter(back) {
		return nil, busy(LimitLinks, "the relay has as many links as it takes")
	}
	k := r.gates.keys.enter(id.Fingerprint, back)
	if k == nil {
		r.gates.links.leave()
		return nil, busy(LimitLinksPerKey, "this key has as many links as the relay lets it")
	}
	g.person = k
	w, ended := r.tickets.issue(id)
	g.leave = func(forGood bool) {
		ended(forGood)
		r.gates.keys.leave(id.Fingerprint)
		r.gates.links.leave()
	}
	return w, nil
}

// busyRetry is when a proxy may ask again that found no room.
const busyRetry = 5 * time.Second

// redeem finds a ticket, and asks again whether its owner may come in.
func (r *Relay) redeem(kind wire.TicketKind, id wire.ID, addr netip.Addr) (wire.Secret, keyauth.Identity, bool) {
	find := r.tickets.find
	if kind == wire.TicketSession {
		find = r.held.ticket
	}
	secret, who, ok := find(id)
	if !ok {
		return secret, who, false
	}
	if list, isRechecker := r.authorizer.(keyauth.Rechecker); isRechecker {
		list.Version()
		if who.Grant, ok = list.Recheck(who.Key, addr); ok {
			return secret, who, true
		}
	}
	who.Grant, ok = r.authorizer.Authorize(who.Key, addr)
	return secret, who, ok
}

// streamsPerSession is how many streams a proxy may have for each session that its
// link may carry: those that are refused or overtaken take a moment to close.
const streamsPerSession = 4

// comeBack is what proxies are told when the relay ends: a restart takes a moment.
const comeBack = time.Second

// farewell is how long a link's sessions may take to tell that the relay ends.
const farewell = 500 * time.Millisecond

// serveLink carries one link until it is lost or ctx is done.
func (r *Relay) serveLink(ctx context.Context, in *guest) {
	conn := in.Conn
	forGood := false
	defer func() { in.leave(forGood) }()
	p := &peer{r: r, conn: conn, person: in.person, log: r.cfg.Log.With("remote", conn.RemoteAddr().String(), "key", conn.Identity.Fingerprint)}
	var err error
	p.link, err = link.Server(conn.Conn, conn.Meter, link.Config{
		Heartbeat: r.cfg.Heartbeat, ComeBack: comeBack, Window: link.WindowFor(r.cfg.Buffer),
		Receipts: conn.Peer.Features&wire.FeatureReceipts != 0, MaxStreams: streamsPerSession * r.cfg.Limits.SessionsPerLink, Trace: &r.cfg.Trace.Link,
	})
	if err != nil {
		conn.Close()
		p.log.Error("link not started", "error", err)
		return
	}
	p.log.Debug("link up", "agent", conn.Peer.Agent)
	if r.cfg.Trace.LinkUp != nil {
		r.cfg.Trace.LinkUp()
	}
	r.roster.enter(p)
	// The link outlives ctx until every session has told its end.
	linkCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	ended := make(chan struct{})
	// Whose key is not authorized any more is told to go, as when the relay ends.
	staying, turnOut := context.WithCancelCause(ctx)
	defer turnOut(nil)
	p.turnOut = turnOut
	r.links.add(p)
	defer r.links.remove(p)
	r.recheckLink(p) // since its key was proven
	p.sessions.Go(func() { p.accept(ctx, staying) })
	r.tasks.Go(func() {
		p.sessions.Wait()
		close(ended)
	})
	defer context.AfterFunc(staying, func() {
		late := time.NewTimer(farewell)
		defer late.Stop()
		select {
		case <-ended:
		case <-late.C:
		}
		cancel(context.Cause(staying))
	})()
	lost := p.link.Run(linkCtx)
	r.roster.leave(p, lost)
	<-ended
	select {
	case <-p.link.Away():
		forGood = true
	default:
	}
	p.log.Debug("link lost", "error", lost)
	if r.cfg.Trace.LinkDown != nil {
		r.cfg.Trace.LinkDown()
	}
}

// instance names this run of the relay.
func (r *Relay) instance() wire.ID { return r.cfg.Transport.Hello.Instance }
