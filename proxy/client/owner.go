package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
)

// Carriers is where a session's owner gets carriers from: a link of its own
// ([Client]), or a running daemon's.
type Carriers interface {
	// Open opens a carrier. The caller owns it.
	Open(ctx context.Context) (io.ReadWriteCloser, error)
}

// Owner runs sessions: it attaches each to a carrier until it has ended. Its
// fields do not change once it is in use.
type Owner struct {
	// Carriers is where carriers come from.
	Carriers Carriers
	// Relay names the relay in errors.
	Relay string

	sessions sync.WaitGroup
}

// Start attaches s to its first carrier and returns once it is on its way to its
// target. first, which may be nil, is then asked for what the client has said so
// far, at most wire.MaxEarly bytes: they travel with the OPEN. ctx bounds the
// wait for a carrier, life the session: when it is done, s is abandoned.
func (o *Owner) Start(ctx, life context.Context, s *session.Session, first func() []byte) error {
	carrier, err := o.Carriers.Open(ctx)
	if err != nil {
		return err
	}
	if first != nil {
		if _, err := s.Write(first()); err != nil {
			carrier.Close()
			return err
		}
	}
	o.sessions.Go(func() {
		if err := s.Attach(life, carrier); err != nil {
			s.Abandon(&LostError{Relay: o.Relay, Err: err})
		}
	})
	return nil
}

// Wait waits until every session has ended.
func (o *Owner) Wait() { o.sessions.Wait() }

// LostError is why a session ended when its link did.
type LostError struct {
	Relay string
	Err   error
}

func (e *LostError) Error() string {
	var lost *link.LostError
	if errors.As(e.Err, &lost) {
		return fmt.Sprintf("the link to relay %s was lost (%s)", e.Relay, lost.Reason)
	}
	return fmt.Sprintf("the connection through relay %s was lost: %v", e.Relay, e.Err)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }
