package client

import (
	"context"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
)

// Tuning is the part of a Config that may change while a client runs; the fields
// mean the same.
type Tuning struct {
	Heartbeat heartbeat.Policy // of links
	Buffer    int              // of sessions
	MaxAge    time.Duration    // of links
}

// Tune lets t count from now on: for links that will be made, and sessions that
// will be started. Those that there are stay as they are.
func (c *Client) Tune(t Tuning) error {
	if err := t.Heartbeat.Validate(); err != nil {
		return err
	}
	c.tuned.Store(&t)
	return nil
}

// Alive returns when this client has shown that it works: the goroutine that keeps
// the link has answered, and the locks were free. While something is stuck it does
// not return, unless ctx is done. It is meant for a watchdog.
func (c *Client) Alive(ctx context.Context) error {
	answered := make(chan struct{})
	select {
	case c.pulse <- answered:
	case <-c.gone:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-answered // at once
	c.now()
	c.owner.list()
	return nil
}
