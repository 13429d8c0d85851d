package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/status"
)

// status is what the daemon is doing.
func (d *daemon) status() *status.Snapshot {
	s := &status.Snapshot{Schema: status.Schema, Role: "proxy", Running: true, Time: time.Now(), Relay: d.started.Proxy.Relay}
	if d.snapshot != nil {
		s = d.snapshot()
	}
	if d.guests != nil {
		s.Sessions = append(s.Sessions, d.guests.Sessions()...)
	}
	s.Version, s.PID, s.Uptime = proxy.Version, os.Getpid(), status.Seconds(time.Since(d.began))
	return s
}

func statusCommand(f *flags, u *ui, noOperands cobra.PositionalArgs) *cobra.Command {
	show := status.Show{Version: proxy.Version}
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running daemon is doing: link and sessions, and the last error of a ProxyCommand",
		Args:  noOperands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			f.changed(cmd.Flags())
			return showStatus(ctx, f, show, u)
		},
	}
	c.Flags().BoolVar(&show.JSON, "json", false, "print JSON")
	c.Flags().BoolVar(&show.Watch, "watch", false, "go on every second until ^C")
	return c
}

// showStatus asks the daemon. Without one it shows the last error of a
// ProxyCommand, which needs none, and fails.
func showStatus(ctx context.Context, f *flags, show status.Show, u *ui) error {
	file, err := f.read()
	if err != nil {
		return err
	}
	o := &inbound.Operator{Path: file.Proxy.Socket, Version: proxy.Version}
	kept := lastErrorFile(os.Getenv)
	err = show.Run(ctx, u.out, func(ctx context.Context) (*status.Snapshot, error) {
		if !show.Watch { // which draws its own
			defer u.err.Wait("asking the daemon")()
		}
		s, err := o.Status(ctx)
		if err != nil {
			return nil, explainDaemon(o, err)
		}
		s.LastError = lastError(kept)
		return s, nil
	})
	if e := lastError(kept); errors.Is(err, inbound.ErrNotRunning) && (e != nil || show.JSON) {
		alone := &status.Snapshot{Schema: status.Schema, Role: "proxy", Time: time.Now(), LastError: e}
		show.Watch = false
		if err := show.Run(ctx, u.out, func(context.Context) (*status.Snapshot, error) { return alone, nil }); err != nil {
			return err
		}
	}
	return err
}

// notRunningError is a daemon that is not there, with the next step.
type notRunningError struct{ path string }

func (e notRunningError) Error() string {
	return fmt.Sprintf("no daemon runs (nobody answers at %s): start it with sshka-proxy serve; a ProxyCommand needs none", e.path)
}

// Is makes it match inbound.ErrNotRunning.
func (e notRunningError) Is(target error) bool { return target == inbound.ErrNotRunning }

// explainDaemon says what a person can do about an error of the daemon's socket.
func explainDaemon(o *inbound.Operator, err error) error {
	if errors.Is(err, inbound.ErrNotRunning) {
		return notRunningError{o.Path}
	}
	return err
}
