package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// serve is the daemon: it keeps the link up and offers it to ProxyCommands, to
// SOCKS and HTTP CONNECT clients and on forwarded ports.
func serve(ctx context.Context, f *flags, u *ui) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	file, err := f.load()
	if err != nil {
		return err
	}
	if f.verbose {
		file.Proxy.Log.Level = config.Level(slog.LevelDebug)
	}
	log := file.Proxy.Log.Logger(os.Stderr)
	d := &daemon{file: file, log: log, ui: u}
	return d.run(ctx)
}

// daemon is one run of serve.
type daemon struct {
	file *config.File
	log  *slog.Logger
	ui   *ui

	dial inbound.Dial
	open func(ctx context.Context) (io.ReadWriteCloser, error) // nil: no link
	up   func() error
}

// run starts everything and ends with the first that fails, or with ctx.
func (d *daemon) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := d.link(ctx, group); err != nil {
		return err
	}
	if err := d.listen(ctx, group); err != nil {
		return err
	}
	err := group.Wait()
	d.log.Info("stopped")
	return err
}

// link sets up how targets are reached.
func (d *daemon) link(ctx context.Context, group *errgroup.Group) error {
	if d.file.Proxy.Relay == config.RelayDirect {
		d.dial = d.file.Direct().DialContext
		d.up = func() error { return nil }
		return nil
	}
	cfg := d.file.Client(agent(), os.Getenv)
	cfg.Log = d.log
	cfg.Dialer.Recorded = func(relay, fingerprint, file string) {
		d.log.Info("relay is new, recorded", "relay", relay, "fingerprint", fingerprint, "file", file)
	}
	cfg.Trace = d.trace()
	if d.file.Proxy.Relay == config.RelayEmbedded {
		e, err := embed(d.file, &cfg, d.log, nil)
		if err != nil {
			return err
		}
		group.Go(func() error { return e.serve(ctx) })
	}
	c, err := client.New(cfg)
	if err != nil {
		return usageError{err}
	}
	d.dial, d.open, d.up = c.DialContext, c.Open, c.Up
	group.Go(func() error { return c.Run(ctx) })
	return nil
}

// trace tells the log what a person may act on.
func (d *daemon) trace() *client.Trace {
	return &client.Trace{
		LinkUp: func(conn *transport.Conn) {
			d.log.Info("link up", "relay", d.file.Proxy.Relay, "address", conn.RemoteAddr().String(), "agent", conn.Peer.Agent)
		},
		LinkLost: func(err *link.LostError) {
			if err.Reason == link.Shutdown {
				d.log.Info("link ended", "reason", err.Reason)
			} else {
				d.log.Warn("link lost, dialling again", "reason", err.Reason)
			}
		},
		Dialled: d.dialled(),
		FellBack: func(address string, err error) {
			d.log.Warn("relay not reached, going directly", "target", address, "error", err)
		},
	}
}

// dialled says once that the relay cannot be reached, and not at every attempt.
func (d *daemon) dialled() func(time.Duration, error) {
	failing := false
	return func(took time.Duration, err error) {
		if err != nil && !failing && !errors.Is(err, context.Canceled) {
			d.log.Warn("relay not reached, trying on", "error", err, "took", took)
		}
		failing = err != nil
	}
}

// listen opens everything that clients come in by.
func (d *daemon) listen(ctx context.Context, group *errgroup.Group) error {
	if d.file.Proxy.Socket != "" && d.open != nil {
		ln, err := inbound.ListenSocket(ctx, d.file.Proxy.Socket)
		if err != nil {
			return d.file.Errorf("proxy.socket", "%w", err)
		}
		s := &inbound.Socket{
			Version: proxy.Version, Relay: d.file.Proxy.Relay, Open: d.open, Dial: d.dial, Log: d.log,
		}
		d.log.Info("listening", "socket", d.file.Proxy.Socket)
		group.Go(func() error { return s.Serve(ctx, ln) })
	}
	return nil
}

// listenTCP opens one address of the configuration.
func (d *daemon) listenTCP(ctx context.Context, key, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, d.file.Errorf(key, "listen on %s: %w", address, err)
	}
	return ln, nil
}
