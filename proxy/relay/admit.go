package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// peer is one proxy while its link lives.
type peer struct {
	r        *Relay
	conn     *transport.Conn
	link     *link.Link
	log      *slog.Logger
	sessions sync.WaitGroup
	gate     gate
}

// accept takes carriers at once, and dials afterwards: a proxy's yamux must not
// wait for a target.
func (p *peer) accept(ctx context.Context) {
	p.gate = make(gate, p.r.cfg.Limits.SessionsPerLink)
	for {
		c, err := p.link.Accept(ctx)
		if err != nil {
			return
		}
		if !p.gate.enter() {
			p.sessions.Go(func() { p.refuse(c) })
			continue
		}
		p.sessions.Go(func() {
			defer p.gate.leave()
			p.admit(ctx, c)
		})
	}
}

// receive reads what a carrier is for, within the handshake's time.
func (p *peer) receive(c io.ReadWriteCloser) (*session.Request, error) {
	t := time.AfterFunc(p.r.cfg.Limits.HandshakeTimeout, func() { c.Close() })
	defer t.Stop()
	req, err := session.Receive(c)
	if err != nil {
		c.Close()
		p.log.Debug("carrier said nothing of use", "error", err)
	}
	return req, err
}

// refuse answers a carrier for which there is no room.
func (p *peer) refuse(c io.ReadWriteCloser) {
	if req, err := p.receive(c); err == nil {
		p.refuseOpen(req, wire.CodeBusy, "the relay carries no more sessions on this link")
	}
}

// refuseOpen answers a request for which no target is dialled.
func (p *peer) refuseOpen(req *session.Request, code wire.Code, message string) {
	_ = req.Refuse(code, message)
	if p.r.cfg.Trace.Opened != nil && req.Open != nil {
		p.r.cfg.Trace.Opened(&session.RefusedError{Refused: wire.Refused{Code: code, Message: message}})
	}
}

// admit carries one session from its OPEN to its end.
func (p *peer) admit(ctx context.Context, c io.ReadWriteCloser) {
	req, err := p.receive(c)
	if err != nil {
		return
	}
	if req.Open == nil {
		_ = req.Refuse(wire.CodeUnknown, "the relay does not know this session")
		return
	}
	id := req.Open.ID
	if !p.r.claim(id) {
		p.refuseOpen(req, wire.CodeBusy, "the session is open already")
		return
	}
	defer p.r.release(id)
	log := p.log.With("session", id.String(), "target", req.Open.Target.String())
	target, err := p.dial(ctx, req)
	if p.r.cfg.Trace.Opened != nil {
		p.r.cfg.Trace.Opened(err)
	}
	if err != nil {
		p.refuseDial(req, log, err)
		return
	}
	p.carry(ctx, req, target, log)
}

// dial reaches the target of req, as long as the proxy still wants it.
func (p *peer) dial(ctx context.Context, req *session.Request) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req.Watch(func() { cancel(errGivenUp) })
	return p.r.cfg.Dialer.Dial(ctx, req.Open.Target)
}

// errGivenUp is why a dial ends when the proxy has left.
var errGivenUp = errors.New("given up by the proxy")

// refuseDial tells the proxy the truth, as far as it is its business.
func (p *peer) refuseDial(req *session.Request, log *slog.Logger, err error) {
	code, message := wire.CodeFailed, "the relay could not reach the target"
	var dial *DialError
	if errors.As(err, &dial) {
		code, message = dial.Code, dial.Message()
	}
	_ = req.Refuse(code, message)
	log.Info("session refused", "code", code.String(), "error", err)
}

// carry joins the session and its target until both have ended.
func (p *peer) carry(ctx context.Context, req *session.Request, target net.Conn, log *slog.Logger) {
	opened := time.Now()
	log = log.With("address", target.RemoteAddr().String(), "source", target.LocalAddr().String())
	log.Info("session opened")

	s := session.Accept(session.Config{Buffer: p.r.cfg.Buffer, Trace: &p.r.cfg.Trace.Session}, req.Open)
	defer context.AfterFunc(ctx, func() { s.Reset(wire.CodeShuttingDown, "the relay shuts down") })()
	linkLife := context.WithoutCancel(ctx) // the reset is to be heard; the link ends the carrier
	var wg sync.WaitGroup
	wg.Go(func() {
		var secret wire.Secret
		_, _ = rand.Read(secret[:]) // never fails
		if err := s.Answer(linkLife, req, secret); err != nil {
			s.Abandon(err)
		}
	})
	result := splice.Join(linkLife, s, halfCloser(target))
	wg.Wait()

	reason := "closed"
	if err := errors.Join(result.Err, s.Err()); err != nil {
		reason = endReason(result.Err, s.Err())
	}
	stats := s.Stats()
	log.Info("session ended", "reason", reason, "to_target", stats.Received, "to_client", stats.Sent,
		"pauses", max(1, stats.Carriers)-1, "duration", time.Since(opened).Round(time.Millisecond).String())
	if p.r.cfg.Trace.Ended != nil {
		p.r.cfg.Trace.Ended(stats, errors.Join(result.Err, s.Err()))
	}
}

// endReason names why a session did not end cleanly.
func endReason(joined, ended error) string {
	var reset *session.ResetError
	var lost *link.LostError
	switch {
	case errors.As(ended, &reset):
		return reset.Code.String()
	case errors.As(ended, &lost):
		return "link lost (" + string(lost.Reason) + ")"
	case ended != nil:
		return "carrier lost"
	}
	return joined.Error()
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
