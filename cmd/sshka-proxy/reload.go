package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/systemd"
)

// obey tells systemd that the daemon runs, and reloads when it is told to, until
// ctx is done.
func (d *daemon) obey(ctx context.Context, group *errgroup.Group, hups <-chan os.Signal) {
	systemd.Ready(d.summary())
	for {
		select {
		case <-hups:
			d.reload(ctx, group)
		case <-ctx.Done():
			systemd.Stopping("stopping")
			return
		}
	}
}

// summary is what systemctl status shows.
func (d *daemon) summary() string { return "relay " + d.started.Proxy.Relay }

// alive is the watchdog's proof.
func (d *daemon) alive(ctx context.Context) error {
	d.status()
	if d.link == nil {
		return nil
	}
	return d.link.Alive(ctx)
}

// reload reads the configuration once more and lets it count. One with a mistake
// changes nothing.
func (d *daemon) reload(ctx context.Context, group *errgroup.Group) {
	systemd.Reloading()
	if err := d.apply(ctx, group); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.log.Error("configuration refused, the old one goes on", "problem", line)
		}
		systemd.Ready("the last reload was refused, see the log; " + d.summary())
		return
	}
	d.log.Info("configuration reloaded", "file", d.file.Name())
	if keys := d.needRestart(); len(keys) > 0 {
		d.log.Warn("not all of the configuration counts yet", "problem", "needs a restart: "+strings.Join(keys, ", "))
	}
	systemd.Ready(d.summary())
}

// apply lets the configuration of now count, or nothing of it.
func (d *daemon) apply(ctx context.Context, group *errgroup.Group) error {
	file, err := d.flags.load()
	if err != nil {
		return err
	}
	all, opened, err := d.listenTCP(ctx, file)
	if err != nil {
		return err
	}
	p := &file.Proxy
	if d.link != nil {
		t := client.Tuning{Heartbeat: p.Heartbeat.Policy(), Buffer: int(p.Session.Buffer), MaxAge: time.Duration(p.Link.MaxAge)}
		if err := d.link.Tune(t); err != nil {
			for _, in := range opened {
				in.ln.Close()
			}
			return err
		}
		d.metrics.SetHeartbeat(t.Heartbeat)
	}
	d.file = file
	d.level.Set(d.flags.level(file))
	d.server.SetAccess(access(file))
	d.relisten(ctx, group, all, opened)
	return nil
}

// live are the keys, and the sections, that count as soon as they are read. All
// others do from the start of the daemon to its end.
var live = []string{
	"proxy.listen", "proxy.allow_remote", "proxy.socks_user", "proxy.allow_other_users", "proxy.forwards",
	"proxy.heartbeat.", "proxy.session.", "proxy.link.", "proxy.log.level",
}

// needRestart names the keys that have changed since the start and do not count
// yet.
func (d *daemon) needRestart() []string {
	return slices.DeleteFunc(config.Changes("proxy", d.started, d.file), func(key string) bool {
		if d.link == nil && strings.HasPrefix(key, "proxy.heartbeat.") { // the kernel's keepalive, of a Dialer
			return false
		}
		return slices.ContainsFunc(live, func(l string) bool { return key == l || strings.HasSuffix(l, ".") && strings.HasPrefix(key, l) })
	})
}
