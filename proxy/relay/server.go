package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
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
	// LinkUp: a proxy has been let in.
	LinkUp func(conn *transport.Conn)
	// LinkDown: its link has ended, most often with a *link.LostError.
	LinkDown func(conn *transport.Conn, err error)
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
	log   *slog.Logger
	trace *Trace
	cfg   atomic.Pointer[Config] // see Reconfigure
	gates *gates
	tasks sync.WaitGroup
	held  *table

	roster roster

	tickets  *tickets
	links    links // that are up
	doors    doors
	serving  chan struct{} // closed by Serve once it accepts
	draining atomic.Bool
}

// now is the configuration that is in force.
func (r *Relay) now() *Config { return r.cfg.Load() }

// authorizer says who may come in.
func (r *Relay) authorizer() keyauth.Authorizer { return r.now().Transport.Verifier.Authorizer }

// New returns a relay.
func New(cfg Config) (*Relay, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	r := &Relay{
		log: cfg.Log, trace: cfg.Trace,
		serving: make(chan struct{}),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.trace == nil {
		r.trace = &Trace{}
	}
	r.gates = newGates(cfg.Limits, r.hit)
	r.held = newTable(cfg.Limits.Memory, r.hit)
	r.tickets = newTickets(cfg.Window, r.hit)
	_, _ = rand.Read(cfg.Transport.Hello.Instance[:]) // never fails
	cfg.Transport.Verifier.Ticket = r.redeem
	r.cfg.Store(&cfg)
	return r, nil
}

// complete returns a copy with what is absent filled in, or says what no relay can
// work with. Its Transport and Verifier are copies too.
func (c Config) complete() (Config, error) {
	if c.Transport == nil || c.Dialer == nil {
		return c, errors.New("relay needs a transport and a dialer")
	}
	if c.Heartbeat.Interval == 0 {
		c.Heartbeat.Interval = RelayPolicy.Interval
	}
	if c.Heartbeat.Timeout == 0 {
		c.Heartbeat.Timeout = RelayPolicy.Timeout
	}
	if err := c.Heartbeat.Validate(); err != nil {
		return c, err
	}
	c.Limits = c.Limits.withDefaults()
	server := *c.Transport
	server.HandshakeTimeout = c.Limits.HandshakeTimeout
	if server.Hello.Window = c.Window; c.Window > 0 {
		server.Hello.Features |= wire.FeatureResume
	}
	verifier := *server.Verifier
	server.Verifier = &verifier
	c.Transport = &server
	return c, nil
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
	r.log.Debug("not let in", "remote", raw.RemoteAddr().String(), "error", err)
	if r.trace.AuthFailed != nil && ctx.Err() == nil {
		r.trace.AuthFailed(err)
	}
}

// guest is a proxy that has been let in.
type guest struct {
	*transport.Conn
	cfg    *Config // by which it came in, and was told what its HELLO says
	person *person
	leave  func(forGood bool) // gives back what it was admitted with
}

// handshake authenticates in two lobbies: one for strangers, another for those who
// may be looking for a key to touch.
func (r *Relay) handshake(ctx context.Context, s *stranger) (*guest, error) {
	room := r.gates.handshakes
	defer func() { room.leave(s) }()
	g := &guest{cfg: r.now()}
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
	if g.Conn, err = g.cfg.Transport.Handshake(ctx, s.conn, door); err != nil {
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
		r.log.Warn("link refused", "key", id.Fingerprint, "reason", why)
		return &wire.Denied{Code: wire.CodeBusy, RetryAfter: busyRetry, Message: why}
	}
	back := r.held.holds(id.Fingerprint)
	if !back && r.draining.Load() {
		return nil, &wire.Denied{Code: wire.CodeShuttingDown, RetryAfter: busyRetry, Message: drainingText}
	}
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
	if list, isRechecker := r.authorizer().(keyauth.Rechecker); isRechecker {
		list.Version()
		if who.Grant, ok = list.Recheck(who.Key, addr); ok {
			return secret, who, true
		}
	}
	who.Grant, ok = r.authorizer().Authorize(who.Key, addr)
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
	p := &peer{
		r: r, cfg: in.cfg, conn: conn, person: in.person, log: r.log.With("remote", conn.RemoteAddr().String(), "key", conn.Identity.Fingerprint),
		gate: make(gate, in.cfg.Limits.SessionsPerLink), asking: make(gate, in.cfg.Limits.SessionsPerLink),
	}
	var err error
	p.link, err = link.Server(conn.Conn, conn.Meter, link.Config{
		Heartbeat: in.cfg.Heartbeat, ComeBack: comeBack, Window: link.WindowFor(in.cfg.Buffer),
		Receipts: conn.Peer.Features&wire.FeatureReceipts != 0, MaxStreams: streamsPerSession * in.cfg.Limits.SessionsPerLink, Trace: &r.trace.Link,
		Accepted: func(c io.ReadWriteCloser) { p.accepted(ctx, c) },
	})
	if err != nil {
		conn.Close()
		p.log.Error("link not started", "error", err)
		return
	}
	p.log.Debug("link up", "agent", conn.Peer.Agent)
	if r.trace.LinkUp != nil {
		r.trace.LinkUp(conn)
	}
	r.roster.enter(p)
	// The link outlives ctx until every session has told its end.
	linkCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	// Whose key is not authorized any more is told to go, as when the relay ends.
	staying, turnOut := context.WithCancelCause(ctx)
	defer turnOut(nil)
	p.turnOut = turnOut
	r.links.add(p)
	defer r.links.remove(p)
	r.recheckLink(p) // since its key was proven
	defer context.AfterFunc(staying, func() {
		ended := make(chan struct{})
		go func() { // ends as serveLink does
			defer close(ended)
			p.leave()
		}()
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
	p.leave()
	select {
	case <-p.link.Away():
		forGood = true
	default:
	}
	p.log.Debug("link lost", "error", lost)
	if r.trace.LinkDown != nil {
		r.trace.LinkDown(conn, lost)
	}
}

// instance names this run of the relay.
func (r *Relay) instance() wire.ID { return r.now().Transport.Hello.Instance }
