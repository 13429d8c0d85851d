package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// snapshots returns what the relay is doing, with this process's own facts.
func snapshots(r *relay.Relay) func() *status.Snapshot {
	began := time.Now()
	return func() *status.Snapshot {
		s := r.Snapshot()
		s.Version, s.PID, s.Uptime = proxy.Version, os.Getpid(), status.Seconds(time.Since(began))
		return s
	}
}

// operate answers status and end on the relay's socket. A relay without one works
// as well, so that what is in the way is a warning.
func operate(ctx context.Context, group *errgroup.Group, r *relay.Relay, path string, log *slog.Logger) {
	if path == "" {
		return
	}
	ln, err := inbound.ListenSocket(ctx, path)
	if err != nil {
		if errors.Is(err, inbound.ErrDaemonRuns) {
			err = fmt.Errorf("another relay serves %s", path)
		}
		log.Warn("no status: the relay's socket cannot be had", "error", err)
		return
	}
	log.Info("listening", "socket", path)
	c := &inbound.Control{
		Version: proxy.Version,
		Status:  snapshots(r),
		End: func(session, key string) (int, error) {
			if session == "" {
				return r.EndKey(key), nil
			}
			if err := r.EndSession(session); err != nil {
				return 0, err
			}
			return 1, nil
		},
		Log: log,
	}
	group.Go(func() error { return c.Serve(ctx, ln) })
}

// running returns the operator's end of the running relay's socket.
func (f *flags) running() (*inbound.Operator, error) {
	_, places, err := f.load()
	if err != nil {
		return nil, err
	}
	return &inbound.Operator{Path: places.Socket, Version: proxy.Version}, nil
}

// explain says what a person can do about an operator's error.
func explain(o *inbound.Operator, err error) error {
	if errors.Is(err, inbound.ErrNotRunning) {
		return fmt.Errorf("no relay runs with this configuration (nobody answers at %s): start it with sshka-relay serve, or name its --config", o.Path)
	}
	return err
}

func statusCommand(f *flags, u *ui, none cobra.PositionalArgs) *cobra.Command {
	show := status.Show{Version: proxy.Version}
	c := &cobra.Command{
		Use: "status", Short: "Show what the running relay is doing: links and sessions", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.running()
			if err != nil {
				return err
			}
			return show.Run(cmd.Context(), u.out, func(ctx context.Context) (*status.Snapshot, error) {
				if !show.Watch { // which draws its own
					defer u.err.Wait("asking the relay")()
				}
				s, err := o.Status(ctx)
				return s, explain(o, err)
			})
		},
	}
	c.Flags().BoolVar(&show.JSON, "json", false, "print JSON")
	c.Flags().BoolVar(&show.Watch, "watch", false, "go on every second until ^C")
	return c
}

func endCommand(f *flags, u *ui) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "end SESSION | end --key SHA256:…",
		Short: "End a session of the running relay, or all sessions of a key",
		Long: "SESSION is the id of a session, or so many of its first digits, at least six, that no other has them.\n" +
			"--key ends the sessions of a key as status shows it. To keep the key out, remove its line first.",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1, len(args) == 1 && key != "":
				return usageError{errors.New("want one session, or --key SHA256:…")}
			case len(args) == 0 && key == "":
				return usageError{errors.New("want a session, or --key SHA256:…; sshka-relay status shows them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			session := ""
			if len(args) == 1 {
				session = args[0]
			} else if err := transport.ParseFingerprint(key); err != nil {
				return usageError{fmt.Errorf("--key: %w", err)}
			}
			return end(cmd.Context(), f, u, session, key)
		},
	}
	c.Flags().StringVar(&key, "key", "", "end all sessions of the key with this `FINGERPRINT`")
	return c
}

// end ends sessions and says how many.
func end(ctx context.Context, f *flags, u *ui, session, key string) error {
	o, err := f.running()
	if err != nil {
		return err
	}
	done := u.err.Wait("asking the relay")
	n, err := o.End(ctx, session, key)
	done()
	var refused *inbound.RequestError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("end session %w; sshka-relay status shows them all", err)
	case err != nil:
		return explain(o, err)
	case n == 0:
		return fmt.Errorf("no session of key %s; sshka-relay status --json shows whose they are", key)
	case n == 1:
		fmt.Fprintln(u.out, "1 session ended")
	default:
		fmt.Fprintf(u.out, "%d sessions ended\n", n)
	}
	return nil
}
