package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Carrier is a carrier and the relay process that it leads to.
type Carrier = inbound.Carrier

// Carriers is where a session's owner gets carriers from: a link of its own
// ([Client]), or a running daemon's.
type Carriers interface {
	// Open opens a carrier for a new session. It fails as soon as it is known that
	// the relay cannot be reached. The caller owns the carrier.
	Open(ctx context.Context) (*Carrier, error)
	// Reopen opens a carrier for a session that has lost its own. It waits until
	// the relay can be reached, ctx is done, or no waiting will help.
	Reopen(ctx context.Context) (*Carrier, error)
}

// Owner runs sessions: it attaches each to one carrier after the other until it
// has ended. Its fields do not change once it is in use.
type Owner struct {
	// Carriers is where carriers come from.
	Carriers Carriers
	// Relay names the relay in errors.
	Relay string
	// Log is for a person; nil discards.
	Log *slog.Logger

	sessions sync.WaitGroup
	live     atomic.Int64 // of them

	mu      sync.Mutex // guards running
	running map[*session.Session]struct{}
}

// busyPause is how long a session waits after a relay that has no room for it
// now, unless the relay says.
const busyPause = time.Second

// Start attaches s to its first carrier and returns once it is on its way to its
// target. first, which may be nil, is then asked for what the client has said so
// far, at most wire.MaxEarly bytes: they travel with the OPEN. ctx bounds the
// wait for a carrier, life the session: when it is done, s is abandoned.
func (o *Owner) Start(ctx, life context.Context, s *session.Session, first func() []byte) error {
	c, err := o.Carriers.Open(ctx)
	if err != nil {
		return err
	}
	if first != nil {
		if _, err := s.Write(first()); err != nil {
			c.Close()
			return err
		}
	}
	o.live.Add(1)
	leave := o.enter(s)
	o.sessions.Go(func() {
		defer leave()
		defer o.live.Add(-1)
		o.run(life, s, c)
	})
	return nil
}

// run carries s until it has ended.
func (o *Owner) run(life context.Context, s *session.Session, c *Carrier) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for {
		window := c.Window // of the relay that holds the session
		err := s.Attach(life, c.ReadWriteCloser, c.Instance)
		if err == nil {
			return
		}
		lost := &LostError{Relay: o.Relay, Err: err}
		var refused *session.RefusedError
		if errors.As(err, &refused) {
			if !o.elsewhere(c, refused) && !o.comeBack(life, refused) {
				s.Abandon(refused)
				return
			}
		} else if window <= 0 || life.Err() != nil {
			s.Abandon(lost)
			return
		}
		paused := time.Now()
		log.Info("session paused", "session", s.ID().String(), "error", err)
		if c, err = o.again(life, window); err != nil {
			lost.Err = errors.Join(lost.Err, err)
			lost.Waited = time.Since(paused)
			s.Abandon(lost)
			return
		}
		log.Info("session resumes", "session", s.ID().String(), "after", time.Since(paused).Round(time.Millisecond).String())
	}
}

// elsewhere reports whether another source of carriers may do better than the one
// that c came from: a daemon may be linked with another key.
func (o *Owner) elsewhere(c *Carrier, refused *session.RefusedError) bool {
	e, ok := o.Carriers.(*Either)
	return ok && refused.Code == wire.CodeNotAllowed && e.avoid(c)
}

// comeBack waits as long as a relay wants that refused a RESUME for now, and
// reports false when it refused for good.
func (o *Owner) comeBack(life context.Context, refused *session.RefusedError) bool {
	switch refused.Code {
	case wire.CodeBusy, wire.CodeSlowDown, wire.CodeShuttingDown:
	default:
		return false
	}
	select {
	case <-time.After(max(busyPause, refused.RetryAfter)):
		return true
	case <-life.Done():
		return false
	}
}

// again gets another carrier within the window.
func (o *Owner) again(life context.Context, window time.Duration) (*Carrier, error) {
	ctx, cancel := context.WithTimeoutCause(life, window, fmt.Errorf("the relay keeps a session for %v", window))
	defer cancel()
	return o.Carriers.Reopen(ctx)
}

// Either gets carriers from First, and from Then when First has none. It is for one
// session.
type Either struct {
	First, Then Carriers

	last *Carrier // that First gave
	only bool     // Then is asked alone: First leads to where the session is not
}

// Open opens a carrier; the error is Then's.
func (e *Either) Open(ctx context.Context) (*Carrier, error) {
	return e.open(ctx, Carriers.Open)
}

// Reopen opens a carrier for a session that has lost its own.
func (e *Either) Reopen(ctx context.Context) (*Carrier, error) {
	return e.open(ctx, Carriers.Reopen)
}

func (e *Either) open(ctx context.Context, from func(Carriers, context.Context) (*Carrier, error)) (*Carrier, error) {
	if !e.only {
		if c, err := from(e.First, ctx); err == nil {
			e.last = c
			return c, nil
		}
	}
	return from(e.Then, ctx)
}

// avoid leaves First alone from now on, if c came from there.
func (e *Either) avoid(c *Carrier) bool {
	if e.only || c != e.last {
		return false
	}
	e.only = true
	return true
}

// Wait waits until every session has ended.
func (o *Owner) Wait() { o.sessions.Wait() }

// LostError is why a session ended when its link did.
type LostError struct {
	Relay  string
	Err    error
	Waited time.Duration // for another link, in vain
}

func (e *LostError) Error() string {
	var lost *link.LostError
	if e.Waited > 0 {
		return fmt.Sprintf("the link to relay %s was lost, and for %v no other came: %v", e.Relay, e.Waited.Round(time.Second), e.Err)
	}
	if errors.As(e.Err, &lost) {
		return fmt.Sprintf("the link to relay %s was lost (%s)", e.Relay, lost.Reason)
	}
	return fmt.Sprintf("the connection through relay %s was lost: %v", e.Relay, e.Err)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }
