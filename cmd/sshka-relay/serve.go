package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
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
	keys := keyauth.NewAuthorizedKeys(places.AuthorizedKeys, func(p keyauth.Problem) {
		log.Warn("authorized_keys", "problem", p.String())
	})
	listeners, addrs, err := listen(ctx, file)
	if err != nil {
		return err
	}
	cfg, err := file.Server(agent(), key, keys, func() []netip.AddrPort { return addrs })
	if err != nil {
		return err
	}
	cfg.Log = log
	r, err := relay.New(cfg)
	if err != nil {
		return err
	}
	for _, ln := range listeners {
		log.Info("listening", "address", ln.Addr().String(), "fingerprint", key.Fingerprint, "authorized_keys", places.AuthorizedKeys)
	}
	err = r.Serve(ctx, listeners...)
	log.Info("stopped")
	return err
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
