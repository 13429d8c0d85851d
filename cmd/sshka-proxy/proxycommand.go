package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// flushTime is how long the end of a ProxyCommand may take: what ssh said last
// is sent, and the relay told.
const flushTime = 500 * time.Millisecond

// errClientGone is why a session ends when ssh has.
var errClientGone = errors.New("the client is gone")

// proxyCommand joins standard input and output to host:port.
func proxyCommand(f *flags, host, port string, u *ui) int {
	// ^C belongs to ssh, which shares our terminal. A closed stdout is an error
	// of the write to it, not a signal.
	signal.Ignore(os.Interrupt, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM)
	defer stop()

	u.failed = func(text string) { keepLastError(lastErrorFile(os.Getenv), host, port, text) }
	target, err := client.NewTarget(host, port)
	if err != nil {
		return u.fail(usageError{err}, "")
	}
	file, err := f.load()
	if err != nil {
		return u.fail(err, "")
	}
	if f.fdpass {
		return passFD(ctx, file, target, u)
	}
	log := slog.New(slog.DiscardHandler)
	if f.verbose {
		u.err.Terminal = false // it sees all of it as it happens
		log = slog.New(slog.NewTextHandler(status.Escaped(os.Stderr), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	stdio := inbound.NewStdio(os.Stdin, os.Stdout)
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() {
		select {
		case <-stdio.Gone(): // ssh was killed
			gone()
		case <-ctx.Done():
		}
	}()
	if file.Proxy.Relay == config.RelayDirect {
		return direct(ctx, file.Direct(), target, stdio, u)
	}
	return through(ctx, file, target, stdio, u, log)
}

// through carries the client through the relay, over the daemon's link or one of
// its own, and from one to the other when a link is lost.
func through(ctx context.Context, file *config.File, target wire.Target, stdio *inbound.Stdio, u *ui, log *slog.Logger) int {
	cfg := file.Client(agent(), os.Getenv)
	cfg.Log = log
	cfg.Dialer.Recorded = u.recorded
	cfg.Dialer.Witness.Proved = showProof(log)
	cfg.Trace = &client.Trace{
		FellBack: func(address string, err error) { u.notice("%v; going to %s directly", err, address) },
	}
	traceBeats(&cfg.Trace.Link, log)
	s := session.Open(session.Config{Buffer: cfg.Buffer}, target)
	cfg.Trace.Dialled = warnOfKey(s, u)

	// Link and session outlive the signal for as long as the last bytes need.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	own := &ownLink{life: life, file: file, cfg: cfg}
	defer own.running.Wait()
	defer end()

	own.cfg.Tickets = func() []keyauth.Ticket {
		t := keyauth.Ticket{Kind: wire.TicketSession, ID: s.ID(), Secret: s.Secret()}
		if !t.Valid() {
			return nil
		}
		return []keyauth.Ticket{t}
	}
	owner := client.Owner{
		Carriers: &client.Either{First: daemonOf(file, s), Then: own},
		Relay:    cfg.Dialer.Relay,
		Log:      log,
	}
	done := u.err.Wait(fmt.Sprintf("sshka-proxy: reaching %s through relay %s", target, cfg.Dialer.Relay))
	defer done()
	go func() { // what the client has to say is not drawn over
		select {
		case <-s.Opened():
		case <-life.Done():
		}
		done()
	}()
	err := owner.Start(ctx, life, s, stdio.Early)
	switch {
	case err == nil:
		return carry(ctx, s, cfg.Dialer.Relay, stdio, u)
	case ctx.Err() != nil:
		return exitDone // ssh has gone before we were there
	case own.client != nil && own.client.FallsBack(ctx, target.String(), err):
		return direct(ctx, cfg.Fallback, target, stdio, u)
	}
	return u.fail(err, target.Host)
}

// warnOfKey says once that another relay answers while s waits for its own: what
// ends a start is no reason to give up a login.
func warnOfKey(s *session.Session, u *ui) func(time.Duration, error) {
	var once sync.Once
	return func(_ time.Duration, err error) {
		var key *transport.RelayKeyError
		if !errors.As(err, &key) {
			return
		}
		select {
		case <-s.Opened():
			once.Do(func() { u.notice("%v; nothing was signed, and your session waits for the right relay", err) })
		default: // the error ends the start
		}
	}
}

// daemonOf is the daemon as a source of carriers for s.
func daemonOf(file *config.File, s *session.Session) *inbound.Daemon {
	return &inbound.Daemon{
		Path:    file.Proxy.Socket,
		Version: proxy.Version,
		Relay:   file.Proxy.Relay,
		Target:  s.Target().String(),
		Session: s.ID().String(),
	}
}

// ownLink is a link of this process's own, dialled when it is first asked for.
// One session asks, one time after the other.
type ownLink struct {
	life context.Context //nolint:containedctx // of the link, not of a call
	file *config.File
	cfg  client.Config

	client  *client.Client // nil: not asked for yet
	running sync.WaitGroup
}

func (o *ownLink) start() (*client.Client, error) {
	if o.client != nil {
		return o.client, nil
	}
	if o.file.Proxy.Relay == config.RelayEmbedded {
		e, err := embed(o.file, &o.cfg, o.cfg.Log)
		if err != nil {
			return nil, err
		}
		o.running.Go(func() { _ = e.serve(o.life) })
	}
	c, err := client.New(o.cfg)
	if err != nil {
		return nil, usageError{err}
	}
	o.client = c
	o.running.Go(func() { _ = c.Run(o.life) }) // Open returns the error
	return c, nil
}

// Open opens a carrier on the link (client.Carriers).
func (o *ownLink) Open(ctx context.Context) (*client.Carrier, error) {
	c, err := o.start()
	if err != nil {
		return nil, err
	}
	return c.Open(ctx)
}

// Reopen opens another, when there is a link again.
func (o *ownLink) Reopen(ctx context.Context) (*client.Carrier, error) {
	c, err := o.start()
	if err != nil {
		return nil, err
	}
	return c.Reopen(ctx)
}

// passFD lets the daemon run the session and hands its connection to ssh.
func passFD(ctx context.Context, file *config.File, target wire.Target, u *ui) int {
	d := &inbound.Daemon{Path: file.Proxy.Socket, Version: proxy.Version, Relay: file.Proxy.Relay, Target: target.String()}
	conn, err := d.Dial(ctx)
	var refused *inbound.RequestError
	switch {
	case errors.As(err, &refused):
		return u.fail(explain(target.String(), file.Proxy.Relay, err), "")
	case err != nil:
		return u.fail(fmt.Errorf("--fdpass needs a running daemon (sshka-proxy serve): %w", err), "")
	}
	defer conn.Close()
	if err := inbound.PassFD(os.Stdout, conn); err != nil {
		return u.fail(err, "")
	}
	return exitDone
}

// carry joins the client and its session until both directions have ended, or
// the client is gone.
func carry(ctx context.Context, s *session.Session, relay string, stdio *inbound.Stdio, u *ui) int {
	joined := make(chan splice.Result, 1)
	go func() { joined <- splice.Join(context.WithoutCancel(ctx), stdio, s) }()

	var result splice.Result
	var late <-chan time.Time
	select {
	case result = <-joined:
		late = time.After(flushTime)
	case <-ctx.Done(): // ssh hangs up when it exits, or was killed
		result, late = goodbye(s, joined)
	}
	select {
	case <-s.Done(): // the relay knows
	case <-late:
	}
	err := s.Err()
	if err == nil {
		err = result.Err
	}
	if d := s.TargetLeft(); d > 0 && ctx.Err() == nil {
		return u.fail(targetLeft(s.Target().String(), d), "")
	}
	var side *splice.Error
	switch {
	case err == nil, ctx.Err() != nil:
		return exitDone
	case errors.Is(err, errClientGone), errors.As(err, &side) && side.Side == splice.A: // our own stdin or stdout
		return exitFailed
	}
	if err := explain(s.Target().String(), relay, err); err != nil {
		return u.fail(err, "")
	}
	return exitFailed
}

// goodbye lets what ssh said last arrive, and the server's end with it, and
// resets the session when that does not come: a relay must not keep a login
// because ssh was killed.
// late is when there is no more time.
func goodbye(s *session.Session, joined <-chan splice.Result) (result splice.Result, late <-chan time.Time) {
	late = time.After(flushTime)
	select {
	case result = <-joined:
	case <-time.After(flushTime * 4 / 5):
		s.Abort(errClientGone)
		result = splice.Result{Err: errClientGone}
	}
	return result, late
}

// direct carries the client to its target without a relay.
func direct(ctx context.Context, d *client.Direct, target wire.Target, stdio *inbound.Stdio, u *ui) int {
	done := u.err.Wait(fmt.Sprintf("sshka-proxy: reaching %s directly", target))
	conn, err := d.DialContext(ctx, "tcp", target.String())
	done()
	switch {
	case err != nil && ctx.Err() != nil:
		return exitDone
	case err != nil:
		return u.fail(err, "")
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return u.fail(errors.New("not a TCP connection"), "")
	}
	joined := make(chan splice.Result, 1)
	go func() { joined <- splice.Join(context.WithoutCancel(ctx), stdio, tcp) }()
	var result splice.Result
	select {
	case result = <-joined:
	case <-ctx.Done(): // ssh hangs up when it exits, or was killed
		select {
		case result = <-joined:
		case <-time.After(flushTime): // what remains ends with this process
			return exitDone
		}
	}
	var side *splice.Error
	switch {
	case result.Err == nil, ctx.Err() != nil:
		return exitDone
	case errors.Is(result.Err, errClientGone), errors.As(result.Err, &side) && side.Side == splice.A:
		return exitFailed
	}
	return u.fail(explainDirect(target, result.Err), "")
}
