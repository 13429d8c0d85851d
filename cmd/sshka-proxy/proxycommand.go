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
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/splice"
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
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	stdio := inbound.NewStdio(os.Stdin, os.Stdout)
	if file.Proxy.Relay == config.RelayDirect {
		return direct(ctx, file.Direct(), target, stdio, u)
	}
	return through(ctx, file, target, stdio, u, log)
}

// through carries the client through the relay, over the daemon's link or one of
// its own.
func through(ctx context.Context, file *config.File, target wire.Target, stdio *inbound.Stdio, u *ui, log *slog.Logger) int {
	cfg := file.Client(agent(), os.Getenv)
	s := session.Open(session.Config{Buffer: cfg.Buffer}, target)
	// Link and session outlive the signal for as long as the last bytes need.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()

	// Why its link is lost only the daemon knows: the error says where to look.
	daemon := client.Owner{Carriers: daemonOf(file, s), Relay: cfg.Dialer.Relay + " on the daemon's link"}
	switch err := daemon.Start(ctx, life, s, stdio.Early); {
	case err == nil:
		log.Debug("using the daemon's link", "socket", file.Proxy.Socket)
		return carry(ctx, s, cfg.Dialer.Relay, stdio, u)
	case ctx.Err() != nil:
		return exitDone
	default:
		log.Debug("opening a link", "reason", err)
	}
	return alone(ctx, life, file, cfg, s, stdio, u, log)
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

// alone carries s over a link of its own.
func alone(ctx, life context.Context, file *config.File, cfg client.Config, s *session.Session, stdio *inbound.Stdio, u *ui, log *slog.Logger) int {
	target := s.Target()
	cfg.Log = log
	cfg.Dialer.Recorded = u.recorded
	cfg.Trace = &client.Trace{
		FellBack: func(address string, err error) { u.notice("%v; going to %s directly", err, address) },
	}
	traceBeats(&cfg.Trace.Link, log)
	life, end := context.WithCancel(life)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	if file.Proxy.Relay == config.RelayEmbedded {
		e, err := embed(file, &cfg, log, nil)
		if err != nil {
			return u.fail(err, "")
		}
		wg.Go(func() { _ = e.serve(life) })
	}
	c, err := client.New(cfg)
	if err != nil {
		return u.fail(usageError{err}, "")
	}
	wg.Go(func() { _ = c.Run(life) }) // Start returns the error

	owner := client.Owner{Carriers: c, Relay: cfg.Dialer.Relay}
	err = owner.Start(ctx, life, s, stdio.Early)
	switch {
	case err == nil:
		return carry(ctx, s, cfg.Dialer.Relay, stdio, u)
	case ctx.Err() != nil:
		return exitDone // ssh has gone before we were there
	case c.FallsBack(ctx, target.String(), err):
		return direct(ctx, cfg.Fallback, target, stdio, u)
	}
	return u.fail(err, target.Host)
}

// passFD lets the daemon run the session and hands its connection to ssh.
func passFD(ctx context.Context, file *config.File, target wire.Target, u *ui) int {
	d := &inbound.Daemon{Path: file.Proxy.Socket, Version: proxy.Version, Relay: file.Proxy.Relay, Target: target.String()}
	conn, err := d.Dial(ctx)
	var refused *inbound.RequestError
	switch {
	case errors.As(err, &refused):
		return u.fail(err, "")
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
	select {
	case result = <-joined:
	case <-ctx.Done(): // ssh hangs up when it exits
		result = goodbye(s, joined)
	case <-stdio.Gone(): // it was killed
		result = goodbye(s, joined)
	}
	select {
	case <-s.Done(): // the relay knows
	case <-time.After(flushTime):
	}
	err := s.Err()
	if err == nil {
		err = result.Err
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
func goodbye(s *session.Session, joined <-chan splice.Result) splice.Result {
	select {
	case result := <-joined:
		return result
	case <-time.After(flushTime):
		s.Abort(errClientGone)
		return splice.Result{Err: errClientGone}
	}
}

// direct carries the client to its target without a relay.
func direct(ctx context.Context, d *client.Direct, target wire.Target, stdio *inbound.Stdio, u *ui) int {
	conn, err := d.DialContext(ctx, "tcp", target.String())
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
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(flushTime, func() { cancel(errClientGone) })
	})()
	go func() {
		select {
		case <-stdio.Gone():
			cancel(errClientGone)
		case <-late.Done():
		}
	}()
	result := splice.Join(late, stdio, tcp)
	var side *splice.Error
	switch {
	case result.Err == nil, ctx.Err() != nil:
		return exitDone
	case errors.Is(result.Err, errClientGone), errors.As(result.Err, &side) && side.Side == splice.A:
		return exitFailed
	}
	return u.fail(explainDirect(target, result.Err), "")
}
