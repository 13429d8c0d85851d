package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
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
	"github.com/sshka/sshka-proxy/proxy/metrics"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/systemd"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// serve is the daemon: it keeps the link up and offers it to ProxyCommands, to
// SOCKS and HTTP CONNECT clients and on forwarded ports.
func serve(ctx context.Context, f *flags) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)    // a second signal ends the process as ever
	hups := make(chan os.Signal, 1) // from the start, so that none is the end of it
	signal.Notify(hups, syscall.SIGHUP)
	defer signal.Stop(hups)
	file, err := f.load()
	if err != nil {
		return err
	}
	d := &daemon{flags: f, file: file, started: file, began: time.Now(), metrics: metrics.New(metrics.Config{
		Role: metrics.RoleProxy, Version: proxy.Version, Heartbeat: file.Proxy.Heartbeat.Policy(),
	})}
	d.level.Set(f.level(file))
	d.log = file.Proxy.Log.Logger(os.Stderr, &d.level)
	return d.run(ctx, hups)
}

// level is what is logged at least.
func (f *flags) level(file *config.File) slog.Level {
	if f.verbose {
		return slog.LevelDebug
	}
	return slog.Level(file.Proxy.Log.Level)
}

// daemon is one run of serve.
type daemon struct {
	flags   *flags
	file    *config.File // that counts now
	started *config.File // that was read at the start: what needs a restart is still so
	log     *slog.Logger
	level   slog.LevelVar // of log
	metrics *metrics.Metrics
	journal status.Journal

	dial   inbound.Dial
	link   *client.Client // nil: none
	server *inbound.Server
	inlets []inlet // that server serves
	up     func() error

	began    time.Time
	snapshot func() *status.Snapshot // nil: there is no link to tell of
	guests   *inbound.Socket         // nil: there is no socket
}

// run starts everything and ends with the first that fails, or with ctx.
func (d *daemon) run(ctx context.Context, hups <-chan os.Signal) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := d.reach(ctx, group); err != nil {
		return err
	}
	if err := d.listen(ctx, group); err != nil {
		return err
	}
	group.Go(func() error { return systemd.Watch(ctx, d.alive) })
	group.Go(func() error {
		d.obey(ctx, group, hups)
		return nil
	})
	err := group.Wait()
	d.log.Info("stopped")
	return err
}

// reach sets up how targets are reached.
func (d *daemon) reach(ctx context.Context, group *errgroup.Group) error {
	if d.file.Proxy.Relay == config.RelayDirect {
		d.dial = d.file.Direct().DialContext
		d.up = func() error { return nil }
		return nil
	}
	cfg := d.file.Client(agent(), os.Getenv)
	cfg.Log = d.log
	cfg.Dialer.Witness.Proved = showProof(d.log)
	cfg.Dialer.Recorded = func(relay, fingerprint, file string) {
		d.log.Info("relay is new, recorded", "relay", relay, "fingerprint", fingerprint, "file", file)
	}
	cfg.Trace = d.metrics.Proxy(d.trace())
	if d.file.Proxy.Relay == config.RelayEmbedded {
		e, err := embed(d.file, &cfg, d.log)
		if err != nil {
			return err
		}
		group.Go(func() error { return e.serve(ctx) })
	}
	c, err := client.New(cfg)
	if err != nil {
		return usageError{err}
	}
	d.dial, d.link, d.up, d.snapshot = c.DialContext, c, c.Up, c.Snapshot
	group.Go(func() error { return c.Run(ctx) })
	return nil
}

// trace tells the log what a person may act on, and the journal what one may want
// to see.
func (d *daemon) trace() *client.Trace {
	links := linkJournal{j: &d.journal}
	return &client.Trace{
		Link:    journalBeats(&d.journal),
		Session: journalSessions(&d.journal),
		LinkUp: func(conn *transport.Conn) {
			links.linkUp(conn)
			d.log.Info("link up", "relay", d.started.Proxy.Relay, "address", conn.RemoteAddr().String(), "agent", conn.Peer.Agent)
		},
		LinkLost: func(err *link.LostError) {
			replaced := links.linkLost(err)
			switch {
			case err.Reason == link.Shutdown:
				d.log.Info("link ended", "reason", err.Reason)
			case replaced:
				d.log.Info("link replaced by a newer one", "reason", err.Reason)
			default:
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

// listen opens everything that clients come in by, and the admin address.
func (d *daemon) listen(ctx context.Context, group *errgroup.Group) error {
	if d.file.Proxy.Socket != "" && d.link != nil {
		if err := d.socket(ctx, group); err != nil {
			return err
		}
	}
	d.server = &inbound.Server{Dial: d.dial, Log: d.log, Trace: d.clients()}
	d.server.SetAccess(access(d.file))
	all, opened, err := d.listenTCP(ctx, d.file)
	if err != nil {
		return err
	}
	d.relisten(ctx, group, all, opened)
	return d.admin(ctx, group)
}

// socket opens the unix socket for ProxyCommands.
func (d *daemon) socket(ctx context.Context, group *errgroup.Group) error {
	ln, err := inbound.ListenSocket(ctx, d.file.Proxy.Socket)
	if err != nil {
		return d.file.Errorf("proxy.socket", "%w", err)
	}
	d.log.Info("listening", "socket", d.file.Proxy.Socket)
	s := &inbound.Socket{Version: proxy.Version, Relay: d.file.Proxy.Relay, Open: d.link.Open, Reopen: d.link.Reopen, Dial: d.dial, Status: d.status, Log: d.log, Guests: journalGuests(&d.journal)}
	d.guests = s
	group.Go(func() error { return s.Serve(ctx, ln) })
	return nil
}

// admin opens the address for metrics and health.
func (d *daemon) admin(ctx context.Context, group *errgroup.Group) error {
	address := d.file.Proxy.Admin
	ln, err := status.Listen(ctx, address, d.file.Given("proxy.admin"), d.log)
	switch {
	case err != nil:
		return d.file.Errorf("proxy.admin", "%w", err)
	case ln == nil:
		return nil
	}
	status.LogListening(d.log, ln.Addr())
	h := status.NewHandler(ln.Addr(), status.Config{
		Metrics: d.metrics.Handler(), Status: status.JSON(d.status), Page: status.NewPage(d.status, &d.journal), Ready: d.up, Address: address,
	})
	group.Go(func() error { return status.Serve(ctx, ln, h, d.log) })
	return nil
}

// clients logs who came in and went, one line each.
func (d *daemon) clients() *inbound.Trace {
	return &inbound.Trace{
		Joined: func(c inbound.Client) {
			d.log.Info("session opened", "by", string(c.Protocol), "client", c.Addr.String(), "target", c.Target)
		},
		Ended: func(c inbound.Client, r splice.Result) {
			d.log.Info("session ended", "by", string(c.Protocol), "client", c.Addr.String(), "target", c.Target,
				"to_target", r.AToB, "to_client", r.BToA, "reason", cmp.Or(r.Why("client", "target"), "closed"))
		},
	}
}
