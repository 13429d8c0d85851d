package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/splice"
)

const (
	// DefaultHandshakeTimeout is what a client may take to say what it wants.
	DefaultHandshakeTimeout = 10 * time.Second
	// DefaultMaxConns is how many clients a Server serves at once.
	DefaultMaxConns = 4096
	// acceptPause is what passes after an error of accept, such as too many open
	// files, before the next attempt.
	acceptPause = 50 * time.Millisecond
)

// Server takes connections from clients on TCP listeners and joins each to its
// target. Dial is required. The fields do not change once it serves.
type Server struct {
	// Dial reaches the targets. It bounds itself: a client that waits does so for
	// as long as Dial does. Its ctx is for the dial alone, and is done when the
	// client has gone. The connection must have CloseWrite (splice.Conn); one that
	// has an Abort (splice.Aborter) can be ended with an error, too.
	Dial Dial
	// AllowOtherUsers lets every user of this machine in. Otherwise, on Linux, a
	// connection over loopback must come from this process's user or from root,
	// and one whose owner cannot be found out is refused. Other systems do not
	// tell, and let everyone in.
	AllowOtherUsers bool
	// Login is what clients of Serve must know; nil lets all of them in. SOCKS4 has
	// no password: with a Login it is refused.
	Login *Login
	// HandshakeTimeout bounds all of what a client says before its own bytes, from
	// accept on. It does not bound the dial, nor anything after it. Zero means
	// DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// MaxConns is how many clients are served at once, on all listeners together;
	// more are closed at once. Zero means DefaultMaxConns.
	MaxConns int
	// Trace is told what happens; nil is told nothing.
	Trace *Trace
	// Log is for a person; nil discards.
	Log *slog.Logger

	conns  atomic.Int64 // served now
	access atomic.Pointer[Access]

	mu         sync.Mutex // guards all below
	retired    map[net.Listener]bool
	redirected map[net.Listener]string
}

// Access is who a Server lets in; the fields mean the same as the Server's.
type Access struct {
	AllowOtherUsers bool
	Login           *Login
}

// SetAccess counts from now on, in place of the Server's fields, for clients that
// come. Those that were let in stay.
func (s *Server) SetAccess(a Access) { s.access.Store(&a) }

// accessNow is what is in force.
func (s *Server) accessNow() Access {
	if a := s.access.Load(); a != nil {
		return *a
	}
	return Access{AllowOtherUsers: s.AllowOtherUsers, Login: s.Login}
}

// Retire closes a listener that s serves, and lets its clients go on: Serve returns
// nil when the last of them has ended.
func (s *Server) Retire(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired == nil {
		s.retired = make(map[net.Listener]bool)
	}
	s.retired[ln] = true
	ln.Close()
}

// Redirect leads clients that come by ln from now on to target, HOST:PORT; with an
// empty one they are asked. Those that are there stay where they are.
func (s *Server) Redirect(ln net.Listener, target string) error {
	if target != "" {
		address, err := parseTarget(target)
		if err != nil {
			return fmt.Errorf("forward to %q: %w", target, err)
		}
		target = address
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.redirected == nil {
		s.redirected = make(map[net.Listener]string)
	}
	s.redirected[ln] = target
	return nil
}

// targetOf is where clients of ln go that is served for the given target.
func (s *Server) targetOf(ln net.Listener, target string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.redirected[ln]; ok {
		return other
	}
	return target
}

// isRetired reports whether ln is, and forgets it.
func (s *Server) isRetired(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.retired[ln]
	delete(s.retired, ln)
	delete(s.redirected, ln)
	return was
}

// Trace is a set of functions that a Server calls when something happens. Each
// may be nil. They must not block.
type Trace struct {
	// Refused: a client was not joined to a target, because of err. What it said
	// may not have been understood: its Protocol and Target may be empty.
	Refused func(c Client, err error)
	// Joined: a client's target is reached and it has been told.
	Joined func(c Client)
	// Ended: a client that was Joined has ended.
	Ended func(c Client, r splice.Result)
}

// Protocol is how a client says where it wants to go.
type Protocol string

// The protocols.
const (
	SOCKS5  Protocol = "socks5"
	SOCKS4  Protocol = "socks4" // and 4a
	CONNECT Protocol = "connect"
	Forward Protocol = "forward" // it is not asked
)

// Client is who came in.
type Client struct {
	Protocol Protocol
	// Addr is the client's own.
	Addr net.Addr
	// Target is HOST:PORT, with brackets around an IPv6 address.
	Target string
}

// Serve accepts clients that speak SOCKS5, SOCKS4, SOCKS4a or HTTP CONNECT. It
// returns nil when ctx is done, an error when the listener fails, both once
// everything it started has ended. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return s.serve(ctx, ln, "") }

// ServeForward accepts clients that all go to target, HOST:PORT. It returns as
// Serve does, and at once for a target that is none. It closes ln.
func (s *Server) ServeForward(ctx context.Context, ln net.Listener, target string) error {
	address, err := parseTarget(target)
	if err != nil {
		ln.Close()
		return fmt.Errorf("forward to %q: %w", target, err)
	}
	return s.serve(ctx, ln, address)
}

// serve accepts clients until ctx is done or ln is closed by another. An error
// that passes is waited out.
func (s *Server) serve(ctx context.Context, ln net.Listener, forward string) error {
	if s.Dial == nil {
		ln.Close()
		return errors.New("inbound server needs a dial function")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(net.ErrClosed)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil // closed by us
		}
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed) && s.isRetired(ln):
			wg.Wait() // not cut by cancel
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		default:
			s.log().Warn("accept failed, trying on", "address", ln.Addr().String(), "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		if s.conns.Add(1) > int64(s.maxConns()) {
			s.conns.Add(-1)
			s.refused(Client{Addr: conn.RemoteAddr()}, fmt.Errorf("%d clients are served already", s.maxConns()))
			conn.Close()
			continue
		}
		wg.Go(func() {
			serve := s.serveConn(ctx, conn, s.targetOf(ln, forward))
			if serve == nil {
				s.conns.Add(-1)
				return
			}
			// The stack of a handshake has grown, and most clients are idle for hours.
			wg.Go(func() {
				defer s.conns.Add(-1)
				serve()
			})
		})
	}
}

// serveConn lets one client in, whom the returned function serves to its end. Nil: it
// was refused. It owns conn.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, forward string) (serve func()) {
	c := newCaller(conn)
	access := s.accessNow()
	c.login = access.Login
	who := Client{Addr: conn.RemoteAddr()}
	target, err := s.admitted(ctx, c, &who, forward, access.AllowOtherUsers)
	if err != nil {
		s.refused(who, err)
		return nil
	}
	if s.Trace != nil && s.Trace.Joined != nil {
		s.Trace.Joined(who)
	}
	return func() { s.join(ctx, c, target, who) }
}

// join serves a client that was let in to its end.
func (s *Server) join(ctx context.Context, c *caller, target splice.Conn, who Client) {
	r := splice.Join(ctx, c, target)
	if r.Err != nil {
		s.log().Debug("client ended", "protocol", who.Protocol, "client", who.Addr.String(), "target", who.Target, "error", r.Err)
	}
	if s.Trace != nil && s.Trace.Ended != nil {
		s.Trace.Ended(who, r)
	}
}

// admitted does all that comes before the client's own bytes: who it is, what it
// wants, the dial, the answer. Upon an error it has closed c.
func (s *Server) admitted(ctx context.Context, c *caller, who *Client, forward string, anyone bool) (splice.Conn, error) {
	defer context.AfterFunc(ctx, func() { c.Abort(context.Cause(ctx)) })() // it may have heard that all is well
	c.SetDeadline(time.Now().Add(s.handshakeTimeout()))                    // absolute: a trickle does not extend it
	if !anyone {
		if err := ownUserOnly(c); err != nil {
			c.Close()
			return nil, err
		}
	}
	how := &forwardDialect
	if who.Target = forward; forward == "" {
		var err error
		if how, err = dialectOf(c); err != nil {
			c.Close()
			return nil, err
		}
		who.Protocol = how.protocol
		if who.Target, err = how.read(c); err != nil {
			how.misread(c, err)
			return nil, fmt.Errorf("read request: %w", err)
		}
	}
	who.Protocol = how.protocol
	c.SetDeadline(time.Time{})
	target, err := s.dial(ctx, c, who.Target)
	if err != nil {
		how.notReached(c, err)
		return nil, fmt.Errorf("dial: %w", err)
	}
	c.SetWriteDeadline(time.Now().Add(s.handshakeTimeout()))
	if err := how.reached(c); err != nil {
		abort(target, err)
		c.Close()
		return nil, fmt.Errorf("answer: %w", err)
	}
	c.SetWriteDeadline(time.Time{})
	return target, nil
}

// dial reaches address for c. It gives up when c has gone.
func (s *Server) dial(ctx context.Context, c *caller, address string) (splice.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.watch(cancel, s.handshakeTimeout())
	conn, err := s.Dial(ctx, "tcp", address)
	gone := stop()
	switch {
	case gone != nil && err == nil:
		abort(conn, gone)
		return nil, gone
	case gone != nil:
		return nil, gone
	case err != nil:
		return nil, err
	}
	target, ok := conn.(splice.Conn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T cannot be half-closed", conn)
	}
	return target, nil
}

func (s *Server) refused(who Client, err error) {
	s.log().Debug("client refused", "protocol", who.Protocol, "client", who.Addr.String(), "target", who.Target, "error", err)
	if s.Trace != nil && s.Trace.Refused != nil {
		s.Trace.Refused(who, err)
	}
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) handshakeTimeout() time.Duration {
	if s.HandshakeTimeout <= 0 {
		return DefaultHandshakeTimeout
	}
	return s.HandshakeTimeout
}

func (s *Server) maxConns() int {
	if s.MaxConns <= 0 {
		return DefaultMaxConns
	}
	return s.MaxConns
}
