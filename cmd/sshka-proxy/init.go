package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/relay"
)

// initOptions are the flags of init.
type initOptions struct {
	port    string
	install bool
	system  bool
	binary  string
	allow   []string
}

// check finds the flags that mean nothing without another.
func (o *initOptions) check(f *flags) error {
	switch {
	case f.relay != "":
		return errors.New("init: the relay is HOST; leave --relay out")
	case f.interval != intervalUnset || f.fdpass:
		return errors.New("init: --interval and --fdpass are not for init; write the interval into the configuration")
	case !o.install && (o.system || o.binary != "" || len(o.allow) > 0):
		return errors.New("init: --system, --relay-binary and --allow need --install")
	}
	if _, err := relay.ParsePolicy(o.allow, nil); err != nil {
		var pattern *relay.PatternError
		if errors.As(err, &pattern) {
			return fmt.Errorf("init: --allow %q: %s", pattern.Pattern, pattern.Reason)
		}
		return fmt.Errorf("init: --allow: %w", err)
	}
	return nil
}

func initCommand(f *flags, u *ui) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init [USER@]HOST",
		Short: "Set up: write the configuration, print what ssh, PuTTY and TeraTerm need; --install sets up the relay, too",
		Long: "Writes a configuration whose relay is HOST, with every key explained, unless there is one. Prints the block for ~/.ssh/config,\n" +
			"the fields of PuTTY and TeraTerm, and how this system keeps the daemon running. Nothing is asked, nothing overwritten.\n\n" +
			"--install sets up the relay as well, by the ssh to [USER@]HOST that already works: copies sshka-relay, writes its configuration\n" +
			"and a unit, starts it, fetches its fingerprint over ssh, and checks the way there. Running it again goes on where it stopped.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("init: want one operand, [USER@]HOST")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			f.changed(cmd.Flags())
			if err := o.check(f); err != nil {
				return usageError{err}
			}
			to, err := parseDestination(args[0], o.port)
			if err != nil {
				return usageError{fmt.Errorf("init: %w", err)}
			}
			i := &initialiser{flags: f, options: o, to: to, out: u.out, ui: u, env: os.Getenv, sshConfig: sshConfig}
			return i.run(ctx)
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.port, "port", "", "the relay's `PORT` (default: "+config.DefaultPort+")")
	fs.BoolVar(&o.install, "install", false, "set up the relay on HOST, by ssh")
	fs.BoolVar(&o.system, "system", false, "with --install: for the whole system over there, not for one user; needs root or sudo without a password")
	fs.StringVar(&o.binary, "relay-binary", "", "with --install: the sshka-relay `FILE` for a HOST of another kind (default: the one beside this program)")
	fs.StringArrayVar(&o.allow, "allow", nil, "with --install: also let the relay reach `PATTERN:PORTS`, as relay.allow; may be repeated (default: only HOST's own sshd)")
	return c
}

// initialiser is one run of init.
type initialiser struct {
	flags   *flags
	options initOptions
	to      destination
	out     io.Writer
	ui      *ui
	env     func(string) string
	// sshConfig is what ssh would do for a host, errNoSSH without an ssh.
	sshConfig func(ctx context.Context, host string) (map[string]string, error)

	// top is a directory over there in the place of /, for tests.
	top string

	ssh  map[string]string // what sshConfig said; nil: nothing is known
	file *config.File      // the configuration, once there is one
}

// run does all of it.
func (i *initialiser) run(ctx context.Context) error {
	if err := i.resolve(ctx); err != nil {
		return err
	}
	if said := i.env("SSHKA_RELAY"); said != "" {
		if r, err := config.ParseRelay(said); err != nil || r != i.to.relay {
			i.ui.notice("$SSHKA_RELAY is set to %q and goes before the configuration: unset it", said)
		}
	}
	if i.options.install {
		return i.install(ctx)
	}
	written, err := i.configure()
	if err != nil {
		return err
	}
	if written {
		i.ui.notice("%s is written", i.file.Name())
	} else {
		i.ui.notice("%s has the relay %s already: nothing is written", i.file.Name(), i.to.relay)
	}
	_, err = io.WriteString(i.out, i.blocks(ctx, sshd{}).text())
	return err
}

// resolve asks ssh what it calls the host: a relay is reached by its address, not by
// a name that only ssh knows.
func (i *initialiser) resolve(ctx context.Context) error {
	options, err := i.sshConfig(ctx, i.to.destination())
	switch {
	case err == nil:
		i.ssh = options
	case !i.options.install: // ssh is not needed
	case errors.Is(err, errNoSSH):
		return errors.New("init: --install needs ssh, which is not installed")
	default:
		return fmt.Errorf("init: ssh has no configuration for %s: %w", i.to.host, err)
	}
	if err := i.to.named(i.ssh["hostname"]); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// configure makes sure that the configuration names the relay, and reads it. written
// tells that there was none.
func (i *initialiser) configure() (written bool, err error) {
	path, exists := i.configPath()
	if path == "" {
		return false, usageError{errors.New("init: there is no place for your configuration, since $HOME (on Windows %APPDATA%) is not set; name the file: --config FILE")}
	}
	if !exists {
		if err := writeConfig(path, i.to.relay); err != nil {
			return false, fmt.Errorf("init: %w", err)
		}
	}
	if i.file, err = config.Load(path, i.env); err != nil {
		return false, usageError{err}
	}
	return !exists, i.namesRelay(path)
}

// namesRelay fails unless the configuration names the relay, with the line to change.
func (i *initialiser) namesRelay(path string) error {
	at := i.file.At("proxy.relay")
	switch i.file.Proxy.Relay {
	case i.to.relay:
		return nil
	case "":
		return fmt.Errorf("init: %s is there, is not overwritten, and names no relay: below proxy: write relay: %q", path, i.to.relay)
	}
	return fmt.Errorf("init: %s is there, is not overwritten, and its relay is %s: change the line to relay: %q", at, i.file.Proxy.Relay, i.to.relay)
}

// configPath is the file that is read, if there is one, else the user's own.
func (i *initialiser) configPath() (path string, exists bool) {
	path = config.Find(i.flags.config, i.env)
	named := path != "" && (path == i.flags.config || path == i.env("SSHKA_CONFIG"))
	if path != "" {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) && (named || i.forUs(path)) {
			return path, true
		}
		if named {
			return path, false
		}
	}
	path = config.UserConfig(i.env)
	_, err := os.Lstat(path)
	return path, path != "" && !errors.Is(err, os.ErrNotExist)
}

// forUs tells whether a file that nobody named is this user's, or names the relay: a
// system's configuration for another relay is no reason to have none of one's own.
func (i *initialiser) forUs(path string) bool {
	if path == config.UserConfig(i.env) {
		return true
	}
	file, err := config.Load(path, i.env)
	return err == nil && file.Proxy.Relay == i.to.relay
}

// blocks gathers what is printed. own is how the relay reaches its own host's sshd,
// empty where that is not known.
func (i *initialiser) blocks(ctx context.Context, own sshd) *blocks {
	b := &blocks{
		hosts: i.to.names(), patterns: hostPatterns(i.options.allow),
		program: programName(), socks: "127.0.0.1:1080", service: serviceHere(), config: i.flags.config,
		own: sshd{"localhost", "%p"},
	}
	if own.address != "" {
		b.own.address = own.address
	}
	if own.port != "" && own.port != i.ssh["port"] {
		b.own.port = own.port
	}
	if b.config != "" {
		if abs, err := filepath.Abs(b.config); err == nil {
			b.config = abs
		}
	}
	if listen := i.file.Proxy.Listen; len(listen) > 0 {
		b.socks = strings.Replace(listen[0], "localhost:", "127.0.0.1:", 1)
	}
	b.login = i.file.Proxy.SocksUser.User
	if i.file.Proxy.Socket != "" && canPassFD {
		daemon := &inbound.Operator{Path: i.file.Proxy.Socket, Version: proxy.Version}
		version, serves, err := daemon.Greet(ctx)
		b.fdpass = err == nil && version == proxy.Version && serves == i.to.relay
	}
	return b
}
