package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// ErrClosed is returned once Run has ended.
var ErrClosed = errors.New("client closed")

// Client keeps a link up. It is safe for concurrent use.
type Client struct {
	cfg   Config
	tuned atomic.Pointer[Tuning] // what of cfg may change
	pulse chan chan struct{}     // the keeper closes what it gets; never closed
	kick  chan struct{}          // a new session wants a link; never closed
	nudge chan struct{}          // so does one that has lost its own

	waiting atomic.Int64 // sessions that have lost their carrier

	gone chan struct{} // closed when Run has ended

	owner Owner
	life  context.Context // of every session: ends with Run
	end   context.CancelFunc

	mu    sync.Mutex // guards state and lost
	state state
	lost  lostLink
}

// state is what the keeper publishes.
type state struct {
	up       *uplink       // nil: no link
	failed   int           // attempts so far that found none while there was none
	err      error         // of the last of them; nil since there was a link
	failedAt time.Time     // when that was
	refused  time.Time     // since when every attempt was refused for good; zero: was not
	changed  chan struct{} // closed when another state has taken this one's place
}

// New returns a client. Run must be called for it to work.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg:   cfg.withDefaults(),
		pulse: make(chan chan struct{}),
		kick:  make(chan struct{}, 1),
		nudge: make(chan struct{}, 1),
		gone:  make(chan struct{}),
		state: state{changed: make(chan struct{})},
	}
	c.tuned.Store(&Tuning{Heartbeat: cfg.Heartbeat, Buffer: cfg.Buffer, MaxAge: cfg.MaxAge})
	c.owner = Owner{Carriers: c, Relay: cfg.Dialer.Relay, Log: c.cfg.Log}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Run dials the relay and keeps the link up until ctx is done, and returns when
// every session has ended. It returns an error only when no retry will mend what
// is wrong: the very first attempt fails because the relay's key is wrong or ours
// is refused; or the relay's key is another than before, and no session is left
// that might wait for the right one.
func (c *Client) Run(ctx context.Context) error {
	defer func() {
		close(c.gone)
		c.end()
		c.owner.Wait()
	}()
	k := &keeper{c: c, events: make(chan func()), over: make(chan struct{}), addrs: net.InterfaceAddrs}
	return k.run(ctx)
}

// publish tells those who wait what has become of the link.
func (c *Client) publish(up *uplink, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.state
	c.state = state{up: up, failed: old.failed, err: err, changed: make(chan struct{})}
	if err != nil {
		c.state.failed++
		c.state.failedAt = time.Now()
		if denied(err) {
			if c.state.refused = old.refused; old.refused.IsZero() {
				c.state.refused = time.Now()
			}
		}
	}
	close(old.changed)
}

// now is the state.
func (c *Client) now() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// refusalTime is how long sessions wait for a relay that knows us no more: its
// list of keys may be about to be written.
const refusalTime = time.Minute

// denied reports whether the relay itself refuses us, and does not say that it is
// for now.
func denied(err error) bool {
	var denied *keyauth.DeniedError
	return errors.As(err, &denied) && denied.Code == wire.CodeNotAllowed
}

// final reports whether a failed attempt is worth no other.
func final(err error) bool {
	var key *transport.RelayKeyError
	return errors.As(err, &key) || errors.Is(err, keyauth.ErrNoKeys) || errors.Is(err, transport.ErrVersion) || denied(err)
}

// await returns the link. When there is none it asks for one, and returns why an
// attempt failed that ended after now; or, being patient, goes on waiting, until
// the relay has refused us for refusalTime.
func (c *Client) await(ctx context.Context, patient bool) (*uplink, error) {
	s := c.now()
	before := s.failed
	for asked := false; ; s = c.now() {
		switch {
		case s.up != nil && s.up.link.Err() == nil:
			return s.up, nil
		case s.failed > before && !patient,
			patient && !s.refused.IsZero() && time.Since(s.refused) >= refusalTime:
			return nil, s.err
		case !asked: // once: the keeper knows when to go on
			asked = true
			if patient {
				offer(c.nudge, struct{}{})
			} else {
				offer(c.kick, struct{}{})
			}
		}
		select {
		case <-s.changed:
		case <-c.gone:
			if err := c.now().err; err != nil {
				return nil, err
			}
			return nil, ErrClosed
		case <-ctx.Done():
			if patient && s.err != nil {
				return nil, s.err
			}
			return nil, context.Cause(ctx)
		}
	}
}

// Open opens a carrier as soon as there is a link (Carriers).
func (c *Client) Open(ctx context.Context) (*Carrier, error) { return c.openCarrier(ctx, false) }

// Reopen opens a carrier as soon as there is a link, however long that takes
// (Carriers). While somebody waits here the relay is dialled more often.
func (c *Client) Reopen(ctx context.Context) (*Carrier, error) {
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	return c.openCarrier(ctx, true)
}

func (c *Client) openCarrier(ctx context.Context, patient bool) (*Carrier, error) {
	for {
		u, err := c.await(ctx, patient)
		if err != nil {
			return nil, err
		}
		carrier, err := u.link.Open(ctx)
		if err == nil {
			peer := &u.conn.Peer
			c := &Carrier{ReadWriteCloser: carrier, Instance: peer.Instance}
			if peer.Features&wire.FeatureResume != 0 {
				c.Window = peer.Window
			}
			return c, nil
		}
		if u.link.Err() == nil || ctx.Err() != nil {
			return nil, err
		} // else lost meanwhile: the next one
	}
}

// Up reports whether there is a link now; if not, the error says why.
func (c *Client) Up() error {
	switch s := c.now(); {
	case s.up != nil:
		return s.up.link.Err()
	case s.err != nil:
		return s.err
	}
	return errors.New("the relay is being dialled")
}

// Start opens a session to target as soon as there is a link, without waiting
// for the target; see Owner.Start for first. The caller owns the session; its
// Opened channel tells when the target is reached.
func (c *Client) Start(ctx context.Context, target wire.Target, first func() []byte) (*session.Session, error) {
	s := session.Open(session.Config{Buffer: c.tuned.Load().Buffer, Trace: &c.cfg.Trace.Session}, target)
	if err := c.owner.Start(ctx, c.life, s, first); err != nil {
		if c.cfg.Trace.NotStarted != nil {
			c.cfg.Trace.NotStarted(err)
		}
		return nil, err
	}
	return s, nil
}

// DialContext connects to address, HOST:PORT, through the relay, or with
// Config.Fallback directly when the relay cannot be reached. The error is a
// *session.RefusedError when the relay could not reach the target.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("dial %s: network %s is not supported", address, network)
	}
	target, err := ParseTarget(address)
	if err != nil {
		return nil, err
	}
	s, err := c.Start(ctx, target, nil)
	if err != nil {
		if c.FallsBack(ctx, address, err) {
			return c.cfg.Fallback.DialContext(ctx, network, address)
		}
		return nil, err
	}
	select {
	case <-s.Opened():
		if err := s.Err(); err != nil {
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.Abort(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
}

// FallsBack reports whether a session that could not start because of err is to
// be dialled directly, and tells the Trace.
func (c *Client) FallsBack(ctx context.Context, address string, err error) bool {
	if c.cfg.Fallback == nil || ctx.Err() != nil || !Unreachable(err) {
		return false
	}
	if c.cfg.Trace.FellBack != nil {
		c.cfg.Trace.FellBack(address, err)
	}
	return true
}

// Unreachable reports whether err means that no relay could be reached: what a
// fallback is for. A relay with a wrong key, or one that refuses us, is not
// unreachable: going around it would hide an attack or a revocation.
func Unreachable(err error) bool {
	var e *transport.DialError
	return errors.As(err, &e)
}

// ParseTarget reads HOST:PORT, with brackets around an IPv6 address.
func ParseTarget(address string) (wire.Target, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return wire.Target{}, fmt.Errorf("target %q: %w", address, err)
	}
	return NewTarget(host, port)
}

// NewTarget checks a host and a port.
func NewTarget(host, port string) (wire.Target, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || n == 0:
		return wire.Target{}, fmt.Errorf("%q is not a port: 1 to 65535", port)
	case host == "":
		return wire.Target{}, errors.New("the target's host is empty")
	case len(host) > wire.MaxText:
		return wire.Target{}, fmt.Errorf("the target's host has %d characters, at most %d", len(host), wire.MaxText)
	}
	return wire.Target{Host: host, Port: uint16(n)}, nil
}
