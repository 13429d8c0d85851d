package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/user"

	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/metrics"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// serve accepts links until ctx is done.
func serve(ctx context.Context, f *flags, u *ui) error {
	file, places, err := f.load()
	if err != nil {
		return err
	}
	if f.verbose {
		file.Relay.Log.Level = config.Level(slog.LevelDebug)
	}
	log := file.Relay.Log.Logger(u.err)
	key, made, err := transport.LoadOrMakeRelayKey(places.Key)
	if err != nil {
		return err
	}
	if made {
		log.Info("relay key made", "file", places.Key, "fingerprint", key.Fingerprint)
	}
	keys, stopKeys, err := authorizer(file, places, func(p keyauth.Problem) {
		log.Warn("authorized_keys", "problem", p.String())
	})
	if err != nil {
		return err
	}
	// A run that is waited for would hold the end up.
	defer context.AfterFunc(ctx, stopKeys)()
	defer stopKeys()
	listeners, addrs, err := listen(ctx, file)
	if err != nil {
		return err
	}
	admin, err := status.Listen(ctx, file.Relay.Admin, file.Given("relay.admin"), log)
	if err != nil {
		return file.Errorf("relay.admin", "%w", err)
	}
	if admin != nil {
		if a, err := netip.ParseAddrPort(admin.Addr().String()); err == nil {
			addrs = append(addrs, a) // no target
		}
	}
	cfg, err := file.Server(agent(), key, keys, func() []netip.AddrPort { return addrs })
	if err != nil {
		return err
	}
	cfg.Log = log
	numbers := metrics.New(metrics.Config{Role: metrics.RoleRelay, Version: proxy.Version, Heartbeat: cfg.Heartbeat})
	cfg.Trace = numbers.Relay(nil)
	r, err := relay.New(cfg)
	if err != nil {
		return err
	}
	numbers.Memory(r.Memory)
	for _, ln := range listeners {
		log.Info("listening", "address", ln.Addr().String(), "fingerprint", key.Fingerprint, "authorized_keys", places.AuthorizedKeys)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Serve(ctx, listeners...) })
	operate(ctx, group, r, places.Socket, log)
	if admin != nil {
		log.Info("listening", "address", admin.Addr().String(), "for", "metrics and health")
		h := status.NewHandler(admin.Addr(), status.Config{
			Metrics: numbers.Handler(), Status: status.JSON(snapshots(r)), Address: file.Relay.Admin,
		})
		group.Go(func() error { return status.Serve(ctx, admin, h, log) })
	}
	err = group.Wait()
	log.Info("stopped")
	return err
}

// authorizer knows who may use the relay. The caller stops it.
func authorizer(file *config.File, places config.Places, report func(keyauth.Problem)) (keys keyauth.Authorizer, stop func(), err error) {
	account, err := accountOf(places)
	if err != nil {
		return nil, nil, err
	}
	list := keyauth.NewAuthorizedKeys(places.AuthorizedKeys, account, report)
	argv := file.Relay.AuthorizedKeysCommand
	if len(argv) == 0 {
		return list, func() {}, nil
	}
	command, err := keyauth.NewCommand(argv, account, report)
	if err != nil {
		return nil, nil, file.Errorf("relay.authorized_keys_command", "%w", err)
	}
	return keyauth.KeyLists{File: list, Command: command}, command.Close, nil
}

// accountOf is the account that certificates for this relay name, where it is one
// user's. A system's relay has none.
func accountOf(places config.Places) (string, error) {
	if places.System {
		return "", nil
	}
	me, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find out whose relay this is: %w", err)
	}
	return me.Username, nil
}

// listen opens all of relay.listen, or none.
func listen(ctx context.Context, file *config.File) (listeners []net.Listener, addrs []netip.AddrPort, err error) {
	// The link has its own heartbeats; the kernel's would hide the interval.
	lc := net.ListenConfig{KeepAlive: -1}
	for i, address := range file.Relay.Listen {
		ln, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			for _, ln := range listeners {
				ln.Close()
			}
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return nil, nil, file.Errorf(fmt.Sprintf("relay.listen[%d]", i), "listen on %s: %w", address, err)
		}
		listeners = append(listeners, ln)
		if a, err := netip.ParseAddrPort(ln.Addr().String()); err == nil {
			addrs = append(addrs, a)
		}
	}
	return listeners, addrs, nil
}
