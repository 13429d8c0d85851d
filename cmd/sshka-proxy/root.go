package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sshka/sshka-proxy/cmd/internal/manual"
	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
)

// flags are those of every command, and of a ProxyCommand.
type flags struct {
	config   string
	relay    string
	interval time.Duration
	fdpass   bool
	verbose  bool
	version  bool
}

func (f *flags) define(fs *pflag.FlagSet) {
	fs.StringVar(&f.config, "config", "", "configuration `FILE` (default: $SSHKA_CONFIG, ~/.config/sshka/config.yaml, /etc/sshka/config.yaml; on Windows %APPDATA%\\sshka\\config.yaml)")
	fs.StringVar(&f.relay, "relay", "", "relay to use, `HOST[:PORT]` or \"direct\" (default: $SSHKA_RELAY, then the configuration)")
	fs.DurationVar(&f.interval, "interval", 0, "longest silence on the link before a beat, e.g. 20s; 0s turns beats off")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "say more on stderr")
}

// defineOwn defines those that mean nothing to any other command than HOST PORT.
func (f *flags) defineOwn(fs *pflag.FlagSet) {
	fs.BoolVar(&f.fdpass, "fdpass", false, "pass the connection to ssh (ProxyUseFdpass yes); needs a running daemon")
	fs.BoolVar(&f.version, "version", false, "print the version")
}

// run is the program. A command line of flags and exactly two operands, the
// second a port, is a ProxyCommand, so that a host may be called "serve"; all
// else is one of the other commands.
func run(args []string, u *ui) int {
	var f flags
	fs := pflag.NewFlagSet("sshka-proxy", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	f.define(fs)
	f.defineOwn(fs)
	switch err := fs.Parse(args); {
	case completing(args): // of what looks like a port: sshka-proxy 10<TAB>
	case errors.Is(err, pflag.ErrHelp): // cobra's is better
	case err != nil:
		if len(args) > 0 && isPort(args[len(args)-1]) { // a ProxyCommand with a mistake
			return u.fail(usageError{err}, "")
		}
	case fs.NArg() == 2 && isPort(fs.Arg(1)):
		f.changed(fs)
		return proxyCommand(&f, fs.Arg(0), fs.Arg(1), u)
	}
	root := command(u)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var said statusError
	switch {
	case errors.As(err, &said):
		return int(said)
	case err != nil:
		return u.fail(err, "")
	}
	return exitDone
}

// isPort reports whether s looks like the second operand of a ProxyCommand: a
// number, even one that is no port, which is then a mistake to explain.
func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// intervalUnset marks an --interval that was not given.
const intervalUnset = time.Duration(-1)

func (f *flags) changed(fs *pflag.FlagSet) {
	if !fs.Changed("interval") {
		f.interval = intervalUnset
	}
}

// command is the tree of commands other than HOST PORT.
func command(u *ui) *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "sshka-proxy [flags] HOST PORT",
		Short: "Carry ssh through a link that no router forgets",
		Long: "As ssh's ProxyCommand: joins standard input and output to HOST:PORT through the relay.\n\n" +
			"  Host *.internal\n" +
			"      ProxyCommand sshka-proxy %h %p\n" +
			"      ServerAliveInterval 0",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && f.version:
				return nil
			case len(args) == 2:
				return usageError{fmt.Errorf("%q is not a port; want HOST PORT", args[1])}
			case len(args) == 0:
				return usageError{errors.New("want HOST PORT; --help tells more")}
			}
			return usageError{fmt.Errorf("%d operands and no command called %q; want HOST PORT; --help tells more", len(args), args[0])}
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "sshka-proxy %s\n", proxy.Version)
			return nil
		},
	}
	root.SetOut(os.Stdout)
	root.SetErr(u.err)
	f.define(root.PersistentFlags())
	f.defineOwn(root.Flags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	complete(root)
	noOperands := func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("%q: no operands are wanted", args[0])}
		}
		return nil
	}
	root.AddCommand(&cobra.Command{
		Use:   "serve",
		Short: "Keep the link up and serve ProxyCommands, SOCKS, HTTP CONNECT and forwards",
		Args:  noOperands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.changed(cmd.Flags())
			return serve(cmd.Context(), &f)
		},
	}, &cobra.Command{
		Use:   "demo",
		Short: "Show in a quarter of a minute, on this machine alone, what this is for",
		Args:  noOperands,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), time.Second)
		},
	})
	root.AddCommand(statusCommand(&f, u, noOperands), checkCommand(&f, u), initCommand(&f, u), manual.Command(manualPage))
	return root
}

// load reads the configuration and lets the environment and the flags have their
// say. A relay must be set.
func (f *flags) load() (*config.File, error) {
	file, err := f.read()
	if err == nil && file.Proxy.Relay == "" {
		return nil, usageError{errors.New("no relay set: sshka-proxy init HOST, --relay HOST, or --relay direct")}
	}
	return file, err
}

// read is load where no relay need be set.
func (f *flags) read() (*config.File, error) {
	file, err := config.Load(config.Find(f.config, os.Getenv), os.Getenv)
	if err != nil {
		return nil, usageError{err}
	}
	for _, from := range []struct{ name, value string }{{"--relay", f.relay}, {"$SSHKA_RELAY", os.Getenv("SSHKA_RELAY")}} {
		if from.value == "" {
			continue
		}
		if file.Proxy.Relay, err = config.ParseRelay(from.value); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", from.name, err)}
		}
		break
	}
	if f.interval != intervalUnset {
		if err := file.Proxy.Heartbeat.SetInterval(f.interval); err != nil {
			return nil, usageError{fmt.Errorf("--interval: %w", err)}
		}
	}
	return file, nil
}
