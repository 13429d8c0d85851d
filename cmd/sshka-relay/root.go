package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sshka/sshka-proxy/cmd/internal/manual"
	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// flags are those of every command.
type flags struct {
	config  string
	verbose bool
	version bool
}

// run is the program.
func run(args []string, u *ui) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process as ever
	root := command(u)
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return u.fail(err)
	}
	return exitDone
}

func command(u *ui) *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:               "sshka-relay",
		Short:             "Carry ssh from proxies' links to the servers here",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("no command called %q; want serve, status, end, fingerprint or check", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !f.version {
				return usageError{errors.New("want a command: serve, status, end, fingerprint or check; --help tells more")}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "sshka-relay %s\n", proxy.Version)
			return nil
		},
	}
	root.SetOut(u.out)
	root.SetErr(u.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	fs := root.PersistentFlags()
	fs.StringVar(&f.config, "config", "", "configuration `FILE` (default: $SSHKA_CONFIG, ~/.config/sshka/relay.yaml or config.yaml, /etc/sshka/relay.yaml for root, or config.yaml)")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "log more")
	root.Flags().BoolVar(&f.version, "version", false, "print the version")
	// Nothing wants the name of a file but --config.
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml") // fails without such a flag
	none := func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%q: no operands are wanted", args[0])}
		}
		return nil
	}
	root.AddCommand(
		&cobra.Command{
			Use: "serve", Short: "Accept links until SIGTERM or SIGINT", Args: none,
			RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &f) },
		},
		statusCommand(&f, u, none),
		endCommand(&f, u),
		&cobra.Command{
			Use: "fingerprint", Short: "Print the name of this relay's key, making the key if there is none", Args: none,
			RunE: func(_ *cobra.Command, _ []string) error { return fingerprint(&f, u) },
		},
		&cobra.Command{
			Use: "check", Short: "Look for mistakes in the configuration, the key and authorized_keys", Args: none,
			RunE: func(_ *cobra.Command, _ []string) error { return check(&f, u) },
		},
		manual.Command(manualPage),
	)
	return root
}

// load reads the configuration and finds the relay's files.
func (f *flags) load() (*config.File, config.Places, error) {
	system := os.Geteuid() == 0
	file, err := config.Load(config.FindRelay(f.config, os.Getenv, system), os.Getenv)
	if err != nil {
		return nil, config.Places{}, usageError{err}
	}
	places, err := file.Places(os.Getenv, system)
	if err != nil {
		return nil, places, usageError{err}
	}
	return file, places, nil
}

func fingerprint(f *flags, u *ui) error {
	_, places, err := f.load()
	if err != nil {
		return err
	}
	key, _, err := transport.LoadOrMakeRelayKey(places.Key)
	if err != nil {
		return err
	}
	fmt.Fprintln(u.out, key.Fingerprint)
	return nil
}
