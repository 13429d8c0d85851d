package client

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/notice"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Config is how a client works. Dialer is required.
type Config struct {
	// Dialer reaches the relay.
	Dialer *transport.Dialer
	// Heartbeat keeps the link warm.
	Heartbeat heartbeat.Policy
	// Buffer bounds what a session holds per direction, in bytes. Zero means
	// session.DefaultBuffer.
	Buffer int
	// MaxAge is how old a link may get before another replaces it: some routers
	// end every connection after a fixed time. Zero: as old as it likes.
	MaxAge time.Duration
	// Tickets returns tickets beside the last link's own, a session's for example,
	// whenever the relay is dialled. It may be nil.
	Tickets func() []keyauth.Ticket
	// Notice calls told when the computer has woken up or its network has changed,
	// until ctx is done: a notice.Watcher's Run. Nil: beats find out.
	Notice func(ctx context.Context, told func(notice.Event))
	// Fallback, when not nil, opens what the relay cannot be reached for.
	Fallback *Direct
	// Trace is told what happens; nil is told nothing.
	Trace *Trace
	// Log is for a person; nil discards.
	Log *slog.Logger
}

// Trace is a set of functions that a client calls when something happens. Each
// may be nil. They must not block.
type Trace struct {
	// Link is given to every link. Its Lost is called for those that sessions could
	// use only.
	Link link.Trace
	// Session is given to every session that the client starts itself.
	Session session.Trace
	// NotStarted: a session was wanted and there was no carrier for it.
	NotStarted func(err error)
	// Dialled: an attempt to reach the relay has ended.
	Dialled func(took time.Duration, err error)
	// LinkUp: a link is there.
	LinkUp func(conn *transport.Conn)
	// LinkLost: it is gone.
	LinkLost func(err *link.LostError)
	// FellBack: a session goes to its target directly, because of err.
	FellBack func(address string, err error)
}

// validate says what no client can work with.
func (c *Config) validate() error {
	if c.Dialer == nil {
		return errors.New("client needs a dialer")
	}
	return c.Heartbeat.Validate()
}

// withDefaults returns a copy with what is absent filled in.
func (c Config) withDefaults() Config {
	if c.Trace == nil {
		c.Trace = &Trace{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
