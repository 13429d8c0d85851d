package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
)

// The layers, in the order in which they are looked at.
const (
	layerConfiguration  = "configuration"
	layerDaemon         = "daemon"
	layerKeys           = "keys"
	layerDNS            = "DNS"
	layerTCP            = "TCP"
	layerTLS            = "TLS"
	layerAuthentication = "authentication"
	layerBeat           = "beat"
	layerTarget         = "target"
	layerBanner         = "banner"
	layerSSH            = "ssh"
)

// finding is what was found out about one layer.
type finding struct {
	Layer string `json:"layer"`
	OK    bool   `json:"ok"`
	// Detail says what there is, or the cause.
	Detail string `json:"detail"`
	// Next is what to do. It may stand beside OK.
	Next string `json:"next,omitempty"`

	warn bool // OK, and yet trouble will come of it
}

// line is the finding for a person.
func (f finding) line() string {
	word := "ok  "
	switch {
	case !f.OK:
		word = "FAIL"
	case f.warn:
		word = "warn"
	}
	line := word + " " + f.Layer + " " + f.Detail
	if f.Next != "" {
		line += "; " + f.Next
	}
	return strings.ReplaceAll(line, "\n", " ")
}

// failure is a layer that does not work: those above it are not looked at.
type failure struct{ layer, detail, next string }

func (f *failure) Error() string { return f.layer + ": " + f.detail }

// checker goes from layer to layer.
type checker struct {
	file *config.File
	cfg  client.Config
	// lookup resolves the relay's name, dial makes a TCP connection.
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// sshConfig is what ssh would do for a host, errNoSSH without an ssh.
	sshConfig func(ctx context.Context, host string) (map[string]string, error)
	daemon    *inbound.Operator
	report    func(finding)
	// wait shows what is being waited for until done is called. It may be nil.
	wait func(what string) (done func())

	answer *sshAnswer // nil: ssh was not asked
	waited func()     // ends the wait that is shown; nil: there is none
}

func checkCommand(f *flags, u *ui) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check [HOST [PORT]]",
		Short: "Find out, layer by layer, what is in the way to the relay and to HOST",
		Long: "Goes layer by layer and stops at the cause, with the next step: configuration, daemon, keys, DNS, TCP, TLS, authentication, beat;\n" +
			"with HOST, as ssh would reach it, also the target, its banner and what ssh does to the connection. Nothing is recorded.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return usageError{fmt.Errorf("%d operands; want HOST and PORT at most", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			f.changed(cmd.Flags())
			var host, port string
			switch len(args) {
			case 2:
				port = args[1]
				fallthrough
			case 1:
				host = args[0]
				p := port
				if p == "" {
					p = "22"
				}
				if _, err := client.NewTarget(host, p); err != nil {
					return usageError{err}
				}
			}
			report, done := reporter(u.out, asJSON)
			return check(ctx, f, host, port, &checker{report: report, wait: u.err.Wait}, done)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// reporter returns what writes findings, and what is to be called after the last.
func reporter(w io.Writer, asJSON bool) (report func(finding), done func() error) {
	if !asJSON {
		return func(f finding) { fmt.Fprintln(w, f.line()) }, func() error { return nil }
	}
	all := []finding{}
	return func(f finding) { all = append(all, f) }, func() error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
}

// check looks at everything and returns the exit status as an error.
func check(ctx context.Context, f *flags, host, port string, c *checker, done func() error) error {
	c.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	c.dial = (&net.Dialer{KeepAlive: -1}).DialContext
	c.sshConfig = sshConfig
	result, asked := exitDone, *f
	if host != "" {
		if own := c.askSSH(ctx, host, port).own; own != nil {
			asked = own.under(asked)
		}
	}
	if err := c.configuration(f, &asked); err != nil {
		c.fail(err)
		result = exitUsage
	} else if err := c.run(ctx, host, port); err != nil {
		c.fail(err)
		result = exitFailed
	}
	c.end()
	if err := done(); err != nil {
		return err
	}
	if result != exitDone {
		return statusError(result)
	}
	return nil
}

// run looks at everything above the configuration. Without a host that ends with
// the link.
func (c *checker) run(ctx context.Context, host, port string) error {
	name := host
	if host != "" {
		host, port = c.askSSH(ctx, host, port).target(host, port)
		if port == "" {
			port = "22"
		}
	}
	if c.file.Proxy.Relay == config.RelayDirect {
		if host == "" {
			return nil
		}
		return c.direct(ctx, name, host, port)
	}
	c.daemonLayer(ctx)
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	if err := c.beat(ctx, l); err != nil || host == "" {
		return err
	}
	if err := c.target(ctx, l, host, port); err != nil {
		return err
	}
	c.ssh(name, l.window())
	return nil
}

// begin says what is being waited for, where somebody looks on.
func (c *checker) begin(layer, doing string) {
	c.end()
	if c.wait != nil {
		c.waited = c.wait(layer + ": " + doing)
	}
}

// end says that the wait is over.
func (c *checker) end() {
	if c.waited != nil {
		c.waited()
		c.waited = nil
	}
}

// tell reports what came of it.
func (c *checker) tell(f finding) {
	c.end()
	c.report(f)
}

func (c *checker) ok(layer, format string, args ...any) {
	c.tell(finding{Layer: layer, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(layer, detail, next string) {
	c.tell(finding{Layer: layer, OK: true, Detail: detail, Next: next, warn: true})
}

func (c *checker) fail(err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{layer: layerConfiguration, detail: err.Error()}
	}
	c.tell(finding{Layer: f.layer, Detail: f.detail, Next: f.next})
}

// configuration reads the configuration, without which there is nothing to look at.
// given are the flags of this command, f these and those that ssh would give.
func (c *checker) configuration(given, f *flags) error {
	file, err := f.read()
	if err != nil {
		return &failure{layerConfiguration, strings.ReplaceAll(err.Error(), "\n", "; "), "correct it; config.example.yaml shows every key"}
	}
	if file.Proxy.Relay == "" {
		return &failure{layerConfiguration, "no relay set", "sshka-proxy init HOST, --relay HOST, or --relay direct"}
	}
	c.file = file
	c.daemon = &inbound.Operator{Path: file.Proxy.Socket, Version: proxy.Version}
	from, name := file.At("proxy.relay").String(), file.Name()
	if name == "" {
		name = "no file"
	}
	switch {
	case given.relay != "":
		from = name + ", --relay"
	case f.relay != "":
		from = name + ", --relay in ssh's ProxyCommand"
	case os.Getenv("SSHKA_RELAY") != "":
		from = name + ", $SSHKA_RELAY"
	}
	c.ok(layerConfiguration, "%s: relay %s", from, file.Proxy.Relay)
	if file.Proxy.Relay != config.RelayDirect {
		c.cfg = file.Client(agent(), os.Getenv)
	}
	return nil
}

// daemonLayer looks whether ssh would borrow a link. Nothing about it can keep ssh
// from working.
func (c *checker) daemonLayer(ctx context.Context) {
	const alone = "until then each ssh opens a link of its own"
	relay := c.file.Proxy.Relay
	if c.daemon.Path == "" {
		c.ok(layerDaemon, "no socket is configured: each ssh opens a link of its own")
		return
	}
	c.begin(layerDaemon, "asking it")
	version, serves, err := c.daemon.Greet(ctx)
	switch {
	case errors.Is(err, inbound.ErrNotRunning):
		c.ok(layerDaemon, "none runs: each ssh opens a link of its own")
		return
	case err != nil:
		c.warn(layerDaemon, err.Error(), "restart it; "+alone)
		return
	case version != c.daemon.Version:
		c.warn(layerDaemon, fmt.Sprintf("version %q runs, this program is %s", version, c.daemon.Version), "restart it; "+alone)
		return
	case serves != relay:
		c.warn(layerDaemon, fmt.Sprintf("it is for relay %q, ssh wants %s", serves, relay), "restart it with this configuration; "+alone)
		return
	}
	s, err := c.daemon.Status(ctx)
	switch {
	case err != nil:
		c.warn(layerDaemon, err.Error(), "restart it; "+alone)
	case len(s.Links) == 0 && s.DialError != nil:
		c.warn(layerDaemon, fmt.Sprintf("version %s, pid %d, has no link: %s", version, s.PID, s.DialError.Text), "see below; "+alone)
	case len(s.Links) == 0:
		c.warn(layerDaemon, fmt.Sprintf("version %s, pid %d, has no link yet", version, s.PID), "see below; "+alone)
	default:
		c.ok(layerDaemon, "version %s, pid %d, has a link", version, s.PID)
	}
}

// took is a time as it is shown.
func took(since time.Time) time.Duration {
	d := time.Since(since)
	if d < 100*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
