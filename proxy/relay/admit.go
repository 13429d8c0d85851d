package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// peer is one proxy while its link lives.
type peer struct {
	r         *Relay
	cfg       *Config // by which it came in
	conn      *transport.Conn
	person    *person // whose links share their limits
	link      *link.Link
	log       *slog.Logger
	sessions  sync.WaitGroup
	mu        sync.Mutex // guards leaving, and the first of sessions
	leaving   bool       // no carrier is taken any more
	gate      gate       // sessions opened on this link
	asking    gate       // carriers that have not said what they are for
	turnOut   context.CancelCauseFunc
	turnedOut atomic.Bool
}

// accepted takes a carrier at once, and dials afterwards: a proxy's yamux must not
// wait for a target. What it begins ends with ctx: a session may have moved to
// another link. A link that ends takes carriers with it that nobody has answered.
func (p *peer) accepted(ctx context.Context, c io.ReadWriteCloser) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaving {
		return
	}
	if !p.asking.enter() { // a flood of carriers that say nothing
		p.r.hit(LimitStreams)
		p.sessions.Go(func() { c.Close() })
		return
	}
	p.sessions.Go(func() {
		req, err := p.receive(c)
		p.asking.leave()
		if err != nil {
			return
		}
		// The stack of a dial has grown, and most sessions are idle for hours.
		if carry := p.admit(ctx, req); carry != nil {
			p.sessions.Go(carry)
		}
	})
}

// leave takes no carrier any more and waits until all that were taken have ended.
func (p *peer) leave() {
	p.mu.Lock()
	p.leaving = true
	p.mu.Unlock()
	p.sessions.Wait()
}

// receive reads what a carrier is for, within the handshake's time.
func (p *peer) receive(c io.ReadWriteCloser) (*session.Request, error) {
	t := time.AfterFunc(p.cfg.Limits.HandshakeTimeout, func() { c.Close() })
	defer t.Stop()
	req, err := session.Receive(c)
	if err != nil {
		c.Close()
		p.log.Debug("carrier said nothing of use", "error", err)
	}
	return req, err
}

// refuseOpen answers a request for which no target is dialled.
func (p *peer) refuseOpen(req *session.Request, code wire.Code, message string) {
	_ = req.Refuse(code, message)
	p.opened(&session.RefusedError{Refused: wire.Refused{Code: code, Message: message}})
}

// opened tells how an OPEN went.
func (p *peer) opened(err error) {
	if p.r.trace.Opened != nil {
		p.r.trace.Opened(err)
	}
}

// admit answers what a carrier asks for: a new session, which the returned function
// carries, or one carried on.
func (p *peer) admit(ctx context.Context, req *session.Request) (carry func()) {
	owner := p.conn.Identity.Fingerprint
	if req.Resume != nil { // never refused for a limit
		p.resume(ctx, req, owner)
		return nil
	}
	if p.r.draining.Load() {
		p.openDraining(ctx, req, owner)
		return nil
	}
	if wait := p.person.opens(time.Now(), p.r.now().Limits.OpensPerSecond); wait > 0 {
		p.r.hit(LimitOpensPerSecond)
		_ = req.RefuseUntil(wire.CodeSlowDown, wait, "this key opens sessions faster than the relay lets it")
		p.opened(&session.RefusedError{Refused: wire.Refused{Code: wire.CodeSlowDown, RetryAfter: wait}})
		return nil
	}
	if !p.gate.enter() {
		p.r.hit(LimitSessionsPerLink)
		p.refuseOpen(req, wire.CodeBusy, "the relay carries no more sessions on this link")
		return nil
	}
	defer func() {
		if carry == nil {
			p.gate.leave()
		}
	}()
	grant, ok := p.r.grantNow(p.conn.Identity, p.conn.Addr)
	if !ok {
		p.refuseOpen(req, wire.CodeNotAllowed, revokedText)
		return nil
	}
	h := &held{owner: owner, reached: make(chan struct{})}
	h.carriedBy(p.conn.Identity, p.conn.Addr)
	_, _ = rand.Read(h.secret[:]) // never fails
	switch known, dead, room := p.r.held.add(req.Open.ID, h, p.r.now().Limits.SessionsPerKey); {
	case known != nil:
		p.repeat(ctx, req, known, owner)
		return nil
	case dead != nil:
		p.repeatDead(req, dead, owner)
		return nil
	case !room:
		p.r.hit(LimitSessionsPerKey)
		p.refuseOpen(req, wire.CodeBusy, "this key holds as many sessions as the relay lets it")
		return nil
	}
	if short := p.r.held.evict(h.memory); short != "" {
		p.r.hit(short)
		busy := wire.Refused{Code: wire.CodeBusy, Message: "the relay is short of memory"}
		p.opened(&session.RefusedError{Refused: busy})
		p.refuse(req, h, &busy)
		return nil
	}
	log := p.log.With("session", req.Open.ID.String(), "target", req.Open.Target.String())
	target, err := p.dial(ctx, req, &grant)
	p.opened(err)
	if err != nil {
		refused := refusal(err)
		log.Info("session refused", "code", refused.Code.String(), "error", err)
		p.refuse(req, h, refused)
		return nil
	}
	h.s = session.Accept(session.Config{Buffer: p.r.now().Buffer, Memory: h.memory, Trace: &p.r.trace.Session}, req.Open)
	close(h.reached)
	log = log.With("address", target.RemoteAddr().String(), "source", target.LocalAddr().String())
	log.Info("session opened")
	p.r.tasks.Go(func() { p.r.carry(ctx, h, target, log) })
	p.r.recheckSession(h) // the dial may have taken long
	return func() {
		defer p.gate.leave()
		p.attach(ctx, req, h)
	}
}

// repeat answers an OPEN that came before: its answer was lost with its link.
func (p *peer) repeat(ctx context.Context, req *session.Request, h *held, owner string) {
	if h.owner != owner {
		p.refuseOpen(req, wire.CodeNotAllowed, "the session is another key's")
		return
	}
	select {
	case <-h.reached:
	case <-ctx.Done():
		req.Drop()
		return
	case <-p.link.Done():
		req.Drop()
		return
	}
	if h.s == nil {
		if _, d := p.r.held.find(req.Open.ID); d != nil {
			p.repeatDead(req, d, owner)
		} else {
			req.Drop()
		}
		return
	}
	p.attach(ctx, req, h)
}

// repeatDead answers an OPEN of a session that is no more: as before, where its
// target was not reached.
func (p *peer) repeatDead(req *session.Request, d *tombstone, owner string) {
	switch {
	case d.owner != owner:
		_ = req.Refuse(wire.CodeNotAllowed, "the session is another key's")
	case d.refused != nil:
		_ = req.Refuse(d.refused.Code, d.refused.Message)
	default:
		_ = req.Refuse(wire.CodeExpired, "the session has ended")
	}
}

// refuse answers an OPEN for which there is no session, and remembers the answer.
func (p *peer) refuse(req *session.Request, h *held, refused *wire.Refused) {
	p.r.held.drop(req.Open.ID, refused)
	close(h.reached)
	_ = req.Refuse(refused.Code, refused.Message)
}

// resume answers a RESUME.
func (p *peer) resume(ctx context.Context, req *session.Request, owner string) {
	h, d := p.r.held.find(req.Resume.ID)
	holder := req.Resume.Instance
	switch {
	case holder != (wire.ID{}) && holder != p.r.instance(), h == nil && d == nil:
		_ = req.Refuse(wire.CodeUnknown, "the relay does not know this session: it was restarted, or the session has ended")
	case h != nil && h.owner != owner, d != nil && d.owner != owner:
		_ = req.Refuse(wire.CodeNotAllowed, "the session is another key's")
	case h != nil:
		select {
		case <-h.reached:
			p.attach(ctx, req, h)
		default: // a RESUME of what was never answered
			_ = req.Refuse(wire.CodeUnknown, "the session is not open yet")
		}
	case d.refused != nil:
		_ = req.Refuse(d.refused.Code, d.refused.Message)
	default:
		_ = req.Bury(d.final)
	}
}

// attach carries the session over the request's carrier and, when that is lost,
// keeps it for the window.
func (p *peer) attach(ctx context.Context, req *session.Request, h *held) {
	turn := req.Generation()
	h.carriedBy(p.conn.Identity, p.conn.Addr)
	h.attached(turn)
	linkLife := context.WithoutCancel(ctx) // a reset is to be heard; the link ends the carrier
	if err := h.s.Answer(linkLife, req, h.secret); err == nil {
		return
	}
	// Also after MOVED: a newer carrier has its own turn, and a proxy that only says
	// so has left.
	window := p.cfg.Window // as the link's HELLO has told the proxy
	if p.conn.Peer.Features&wire.FeatureResume == 0 {
		window = 0 // this proxy will not come back
	}
	select {
	case <-p.link.Done():
	default: // its owner was killed, or has left
		window = min(window, shortWindow)
	}
	h.detached(turn, window)
}

// dial reaches the target of req, as long as the proxy still wants it: until its
// carrier ends while the link lives. A lost link is no reason to stop, since the
// proxy will ask again.
func (p *peer) dial(ctx context.Context, req *session.Request, grant *keyauth.Grant) (net.Conn, error) {
	target := req.Open.Target
	dialer := p.r.now().Dialer
	if err := grant.Permits(target.Host, target.Port); err != nil {
		return nil, dialer.notAllowed(target, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req.Watch(func() {
		select {
		case <-p.link.Done():
		default:
			cancel(errGivenUp)
		}
	})
	dials := p.r.gates.keys.dials(p.person)
	if err := dials.wait(ctx, dialer.timeout(), func() { p.r.hit(LimitDialsPerKey) }); err != nil {
		return nil, dialer.dialError(target, err)
	}
	defer dials.leave()
	return dialer.Dial(ctx, target)
}

// errGivenUp is why a dial ends when the proxy has left.
var errGivenUp = errors.New("given up by the proxy")

// refusal is what the proxy is told of a failed dial: the truth, as far as it is
// its business.
func refusal(err error) *wire.Refused {
	var dial *DialError
	if errors.As(err, &dial) {
		return &wire.Refused{Code: dial.Code, Message: dial.Message()}
	}
	return &wire.Refused{Code: wire.CodeFailed, Message: "the relay could not reach the target"}
}

// carry joins the session and its target until both have ended, over however
// many carriers that takes.
func (r *Relay) carry(ctx context.Context, h *held, target net.Conn, log *slog.Logger) {
	opened := time.Now()
	s := h.s
	defer context.AfterFunc(ctx, func() { h.shutDown() })()
	result := splice.Join(context.WithoutCancel(ctx), s, halfCloser(target))
	<-s.Done() // the proxy knows, or will not ask again
	r.held.bury(s.ID(), s.Final(), s.Err(), r.now().Window)

	reason := "closed"
	if err := errors.Join(result.Err, s.Err()); err != nil {
		reason = endReason(result, s.Err())
	}
	stats := s.Stats()
	log.Info("session ended", "reason", reason, "to_target", stats.Received, "to_client", stats.Sent,
		"pauses", max(1, stats.Carriers)-1, "duration", time.Since(opened).Round(time.Millisecond).String(),
		slog.Group("", targetLeft(s)...))
	if r.trace.Ended != nil {
		r.trace.Ended(stats, errors.Join(result.Err, s.Err()))
	}
}

// targetLeft tells of a target that ended its connection while nobody was there:
// an sshd with a ClientAliveInterval, most likely.
func targetLeft(s *session.Session) []any {
	if d := s.TargetLeft(); d > 0 {
		return []any{"target_left_after", d.Round(time.Millisecond).String()}
	}
	return nil
}

// endReason names why a session did not end cleanly.
func endReason(joined splice.Result, ended error) string {
	var reset *session.ResetError
	var lost *link.LostError
	switch {
	case errors.Is(ended, errExpired):
		return "expired"
	case errors.Is(ended, errRevoked):
		return wire.CodeRevoked.String()
	case errors.As(ended, &reset):
		return reset.Code.String()
	case errors.As(ended, &lost):
		return "link lost (" + string(lost.Reason) + ")"
	case ended != nil:
		return "carrier lost"
	}
	return joined.Why("proxy", "target")
}

// halfCloser returns c as splice wants it. What cannot end one direction alone
// ends both.
func halfCloser(c net.Conn) splice.Conn {
	if c, ok := c.(splice.Conn); ok {
		return c
	}
	return whole{c}
}

type whole struct{ net.Conn }

// CloseWrite ends both directions.
func (w whole) CloseWrite() error { return w.Close() }
