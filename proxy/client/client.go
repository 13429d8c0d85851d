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
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// ErrClosed is returned once Run has ended.
var ErrClosed = errors.New("client closed")

// Client keeps a link up. It is safe for concurrent use.
type Client struct {
	cfg  Config
	kick chan struct{} // a session wants a link now; never closed

	waiting atomic.Int64 // sessions that have lost their carrier

	gone chan struct{} // closed when Run has ended

	owner Owner
	life  context.Context // of every session: ends with Run
	end   context.CancelFunc

	mu      sync.Mutex // guards all below
	attempt *attempt   // the current, or the last
}

// attempt is one try to reach the relay, and the link that came of it.
type attempt struct {
	done chan struct{} // closed when link or err is set
	over chan struct{} // closed when another attempt has taken its place
	link *link.Link
	peer wire.Hello // the relay's
	err  error
}

func newAttempt() *attempt {
	return &attempt{done: make(chan struct{}), over: make(chan struct{})}
}

// New returns a client. Run must be called for it to work.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg:     cfg.withDefaults(),
		kick:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
		attempt: newAttempt(),
	}
	c.owner = Owner{Carriers: c, Relay: cfg.Dialer.Relay, Log: c.cfg.Log}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Run dials the relay and keeps the link up until ctx is done, and returns when
// every session has ended. It returns an error only when the very first attempt
// fails with what no retry mends: the relay's key is wrong, or ours is refused.
func (c *Client) Run(ctx context.Context) error {
	defer func() {
		close(c.gone)
		c.end()
		c.owner.Wait()
	}()
	var pause redial
	everUp := false
	for ctx.Err() == nil {
		start := time.Now()
		up, err := c.try(ctx)
		if !up && !everUp && final(err) {
			return err
		}
		everUp = everUp || up
		select {
		case <-time.After(c.comeBack() + pause.next(up, time.Since(start), c.waiting.Load() > 0)):
		case <-c.kick:
		case <-ctx.Done():
		}
		c.mu.Lock()
		close(c.attempt.over)
		c.attempt = newAttempt()
		c.mu.Unlock()
	}
	return nil
}

// try is one attempt: it dials, and runs the link until it is lost. up tells
// whether there was one; err is why not.
func (c *Client) try(ctx context.Context) (up bool, err error) {
	c.mu.Lock()
	a := c.attempt
	c.mu.Unlock()
	start := time.Now()
	dialer := *c.cfg.Dialer
	if c.waiting.Load() > 0 && dialer.ConnectTimeout == 0 && dialer.HandshakeTimeout == 0 {
		dialer.ConnectTimeout, dialer.HandshakeTimeout = waitingConnect, waitingHandshake
	}
	conn, err := dialer.Dial(ctx)
	if c.cfg.Trace.Dialled != nil {
		c.cfg.Trace.Dialled(time.Since(start), err)
	}
	if err == nil {
		a.peer = conn.Peer
		a.link, err = link.Client(conn.Conn, conn.Meter, link.Config{
			Heartbeat: c.cfg.Heartbeat, Window: link.WindowFor(c.cfg.Buffer), Trace: &c.cfg.Trace.Link,
		})
	}
	if err != nil {
		a.err = err
		close(a.done)
		c.cfg.Log.Debug("relay not reached", "relay", c.cfg.Dialer.Relay, "error", err)
		return false, err
	}
	if c.cfg.Trace.LinkUp != nil {
		c.cfg.Trace.LinkUp(conn)
	}
	c.cfg.Log.Debug("link up", "relay", c.cfg.Dialer.Relay, "took", time.Since(start))
	close(a.done)
	lost := a.link.Run(ctx)
	c.cfg.Log.Debug("link lost", "relay", c.cfg.Dialer.Relay, "error", lost)
	var e *link.LostError
	if errors.As(lost, &e) && c.cfg.Trace.LinkLost != nil {
		c.cfg.Trace.LinkLost(e)
	}
	return true, nil
}

// maxComeBack is how long a relay's GOAWAY may keep us away.
const maxComeBack = time.Minute

// comeBack is when the relay of the last attempt wants to be called again.
func (c *Client) comeBack() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempt.err != nil || c.attempt.link == nil {
		return 0
	}
	return min(c.attempt.link.ComeBack(), maxComeBack)
}

// final reports whether a failed attempt is worth no other.
func final(err error) bool {
	var key *transport.RelayKeyError
	var denied *keyauth.DeniedError
	return errors.As(err, &key) || errors.Is(err, keyauth.ErrNoKeys) || errors.Is(err, transport.ErrVersion) ||
		errors.As(err, &denied) && denied.Code == wire.CodeNotAllowed
}

// await returns the link. When there is none it waits for the attempt under way,
// or asks for one, and returns why that failed.
func (c *Client) await(ctx context.Context) (*attempt, error) {
	failed := false // an attempt that began before now
	for first := true; ; first = false {
		c.mu.Lock()
		a := c.attempt
		c.mu.Unlock()
		select {
		case <-a.done:
			failed = first && a.err != nil
		default:
			select {
			case <-a.done:
			case <-c.gone:
				return nil, ErrClosed
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		switch {
		case a.err != nil && !failed:
			return nil, a.err
		case a.err != nil: // an old failure: try again for us
			select {
			case c.kick <- struct{}{}:
			default:
			}
		case a.link.Err() == nil:
			return a, nil
		}
		select {
		case <-a.over:
		case <-c.gone:
			if a.err != nil {
				return nil, a.err
			}
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Open opens a carrier as soon as there is a link (Carriers).
func (c *Client) Open(ctx context.Context) (*Carrier, error) { return c.openCarrier(ctx, c.await) }

// Reopen opens a carrier as soon as there is a link, however long that takes
// (Carriers). While somebody waits here the relay is dialled more often.
func (c *Client) Reopen(ctx context.Context) (*Carrier, error) {
	if c.waiting.Add(1) == 1 {
		select {
		case c.kick <- struct{}{}: // ends a longer pause
		default:
		}
	}
	defer c.waiting.Add(-1)
	return c.openCarrier(ctx, c.awaitPatiently)
}

func (c *Client) openCarrier(ctx context.Context, await func(context.Context) (*attempt, error)) (*Carrier, error) {
	for {
		a, err := await(ctx)
		if err != nil {
			return nil, err
		}
		carrier, err := a.link.Open(ctx)
		if err == nil {
			c := &Carrier{ReadWriteCloser: carrier, Instance: a.peer.Instance}
			if a.peer.Features&wire.FeatureResume != 0 {
				c.Window = a.peer.Window
			}
			return c, nil
		}
		if a.link.Err() == nil || ctx.Err() != nil {
			return nil, err
		} // else lost meanwhile: the next one
	}
}

// awaitPatiently is await that takes no failure for an answer, but for one that
// no retry mends.
func (c *Client) awaitPatiently(ctx context.Context) (*attempt, error) {
	for {
		c.mu.Lock()
		a := c.attempt
		c.mu.Unlock()
		select {
		case <-a.done:
			if a.err == nil && a.link.Err() == nil {
				return a, nil
			}
		case <-c.gone:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		select {
		case <-a.over:
		case <-c.gone:
			return nil, ErrClosed
		case <-ctx.Done():
			if a.err != nil {
				return nil, a.err
			}
			return nil, context.Cause(ctx)
		}
	}
}

// Up reports whether there is a link now; if not, the error says why.
func (c *Client) Up() error {
	c.mu.Lock()
	a := c.attempt
	c.mu.Unlock()
	select {
	case <-a.done:
	default:
		return errors.New("the relay is being dialled")
	}
	if a.err != nil {
		return a.err
	}
	return a.link.Err()
}

// Start opens a session to target as soon as there is a link, without waiting
// for the target; see Owner.Start for first. The caller owns the session; its
// Opened channel tells when the target is reached.
func (c *Client) Start(ctx context.Context, target wire.Target, first func() []byte) (*session.Session, error) {
	s := session.Open(session.Config{Buffer: c.cfg.Buffer, Trace: &c.cfg.Trace.Session}, target)
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
