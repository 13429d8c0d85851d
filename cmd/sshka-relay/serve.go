package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/metrics"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/systemd"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// server is one run of serve.
type server struct {
	flags *flags
	log   *slog.Logger
	level slog.LevelVar // of log

	file    *config.File // that counts now
	started *config.File // that was read at the start: what needs a restart is still so
	key     *transport.RelayKey

	keysMu  sync.Mutex // guards all below, which only obey's goroutine changes
	keys    *authority
	retired *authority // was keys; what it was asked last may still be answered

	own    addresses
	inlets []inlet // for links
	given  bool    // they are systemd's

	relay   *relay.Relay
	numbers *metrics.Metrics
	journal *status.Journal
}

// addresses are where this process listens: no targets, unless a CIDR names them.
type addresses struct {
	links atomic.Pointer[[]netip.AddrPort]
	admin []netip.AddrPort
}

// list returns all of them.
func (a *addresses) list() []netip.AddrPort {
	return append(append([]netip.AddrPort(nil), *a.links.Load()...), a.admin...)
}

// serve accepts links until it is told to end.
func serve(ctx context.Context, f *flags) error {
	s := &server{flags: f}
	told := listenToSignals()
	defer told.close()
	file, places, err := f.load()
	if err != nil {
		return err
	}
	s.file, s.started = file, file
	s.level.Set(f.level(file))
	s.log = file.Relay.Log.Logger(os.Stderr, &s.level)
	var made bool
	if s.key, made, err = transport.LoadOrMakeRelayKey(places.Key); err != nil {
		return err
	}
	if made {
		s.log.Info("relay key made", "file", places.Key, "fingerprint", s.key.Fingerprint)
	}
	if s.keys, err = newAuthority(file, places, s.report); err != nil {
		return err
	}
	defer s.closeKeys()
	admin, err := s.open(ctx)
	if err != nil {
		return err
	}
	if admin == nil {
		if admin, err = status.Listen(ctx, file.Relay.Admin, file.Given("relay.admin"), s.log); err != nil {
			return file.Errorf("relay.admin", "%w", err)
		}
	}
	if admin != nil {
		s.own.admin = addrPorts(admin)
	}
	if err := s.newRelay(); err != nil {
		return err
	}
	s.numbers.Memory(s.relay.Memory)
	return s.run(admin, places, told)
}

// level is what is logged at least.
func (f *flags) level(file *config.File) slog.Level {
	if f.verbose {
		return slog.LevelDebug
	}
	return slog.Level(file.Relay.Log.Level)
}

// newRelay makes the relay and its numbers.
func (s *server) newRelay() error {
	cfg, err := s.file.Server(agent(), s.key, s.keys.list, s.own.list)
	if err != nil {
		return err
	}
	cfg.Log = s.log
	s.journal = &status.Journal{}
	s.numbers = metrics.New(metrics.Config{Role: metrics.RoleRelay, Version: proxy.Version, Heartbeat: cfg.Heartbeat})
	cfg.Trace = s.numbers.Relay(journaled(s.journal))
	s.relay, err = relay.New(cfg)
	return err
}

// run serves on what is open until it is told to end, or something fails.
func (s *server) run(admin net.Listener, places config.Places, told *signals) error {
	group, ctx := errgroup.WithContext(context.Background())
	life, end := context.WithCancel(ctx)
	defer end()
	// A run of the command that is waited for would hold the end up.
	defer context.AfterFunc(life, s.closeKeys)()
	group.Go(func() error { return s.relay.Serve(life, listenersOf(s.inlets)...) })
	for _, in := range s.inlets {
		s.announce(in, places.AuthorizedKeys)
	}
	operate(life, group, s.relay, places.Socket, s.log)
	if admin != nil {
		status.LogListening(s.log, admin.Addr())
		take := snapshots(s.relay)
		h := status.NewHandler(admin.Addr(), status.Config{
			Metrics: s.numbers.Handler(), Status: status.JSON(take), Page: status.NewPage(take, s.journal),
			Ready: s.relay.Ready, Address: s.file.Relay.Admin,
		})
		group.Go(func() error { return status.Serve(life, admin, h, s.log) })
	}
	group.Go(func() error { return systemd.Watch(life, s.relay.Alive) })
	group.Go(func() error {
		s.obey(life, end, told)
		return nil
	})
	err := group.Wait()
	s.log.Info("stopped")
	return err
}
