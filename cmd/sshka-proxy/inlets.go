package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
)

// inlet is a listener for clients, and how the configuration names it.
type inlet struct {
	ln      net.Listener
	address string
	target  string // of a forward; empty: clients are asked
}

// access is who may use the inlets.
func access(file *config.File) inbound.Access {
	a := inbound.Access{AllowOtherUsers: file.Proxy.AllowOtherUsers}
	if login := file.Proxy.SocksUser; login != (config.Login{}) {
		a.Login = &inbound.Login{User: login.User, Password: login.Password}
	}
	return a
}

// listenTCP returns the inlets of proxy.listen and proxy.forwards, of which those of
// opened are new, or none.
func (d *daemon) listenTCP(ctx context.Context, file *config.File) (all, opened []inlet, err error) {
	left := slices.Clone(d.inlets)
	add := func(key, address, target string) error {
		if j := slices.IndexFunc(left, func(in inlet) bool { return in.address == address }); j >= 0 {
			all = append(all, inlet{left[j].ln, address, target})
			left = slices.Delete(left, j, j+1)
			return nil
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return file.Errorf(key, "listen on %s: %w", address, err)
		}
		in := inlet{ln, address, target}
		all, opened = append(all, in), append(opened, in)
		return nil
	}
	for i, address := range file.Proxy.Listen {
		if err == nil {
			err = add(fmt.Sprintf("proxy.listen[%d]", i), address, "")
		}
	}
	for i, f := range file.Proxy.Forwards {
		if err == nil {
			err = add(fmt.Sprintf("proxy.forwards[%d].listen", i), f.Listen, f.Target)
		}
	}
	if err != nil {
		for _, in := range opened {
			in.ln.Close()
		}
		return nil, nil, err
	}
	return all, opened, nil
}

// relisten serves what was opened, leads what stays where it should go now, and
// serves no longer what is not among all. Clients stay wherever they came in.
func (d *daemon) relisten(ctx context.Context, group *errgroup.Group, all, opened []inlet) {
	for _, in := range opened {
		if in.target == "" {
			d.log.Info("listening", "address", in.ln.Addr().String(), "for", "SOCKS5, SOCKS4a, HTTP CONNECT")
			group.Go(func() error { return d.server.Serve(ctx, in.ln) })
		} else {
			d.log.Info("listening", "address", in.ln.Addr().String(), "for", "a forward")
			group.Go(func() error { return d.server.ServeForward(ctx, in.ln, in.target) })
		}
	}
	for _, old := range d.inlets {
		i := slices.IndexFunc(all, func(in inlet) bool { return in.ln == old.ln })
		switch {
		case i < 0:
			d.server.Retire(old.ln)
			d.log.Info("no longer listening", "address", old.ln.Addr().String())
		case all[i].target != old.target:
			if err := d.server.Redirect(old.ln, all[i].target); err != nil { // the configuration was checked
				d.log.Error("forward not changed", "address", old.address, "error", err)
			}
		}
	}
	d.inlets = all
}
