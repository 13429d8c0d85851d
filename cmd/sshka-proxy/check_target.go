package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// targetTime bounds the wait for a target; a relay gives up before.
	targetTime = 20 * time.Second
	// bannerTime is how long an ssh server may take to say what it is, and
	// bannerLines how much it may say before (RFC 4253 §4.2).
	bannerTime  = 5 * time.Second
	bannerLines = 16
	bannerSize  = 4 << 10 // bytes of a line
	// sshTime bounds ssh -G, which may look up names.
	sshTime = 5 * time.Second
)

// target looks whether the relay reaches the target, and what answers there.
func (c *checker) target(ctx context.Context, l *checkedLink, host, port string) error {
	target, err := client.NewTarget(host, port)
	if err != nil {
		return &failure{layerTarget, err.Error(), "check HostName and Port in ~/.ssh/config"}
	}
	began := time.Now()
	c.begin(layerTarget, "the relay connects to "+target.String())
	ctx, cancel := context.WithTimeout(ctx, targetTime)
	defer cancel()
	carrier, err := l.link.Open(ctx)
	if err != nil {
		return &failure{layerTarget, err.Error(), "the link was lost: try again"}
	}
	s := session.Open(session.Config{Buffer: c.cfg.Buffer}, target)
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		if err := s.Attach(ctx, carrier, l.conn.Peer.Instance); err != nil {
			s.Abandon(err)
		}
	}()
	defer func() {
		s.Abort(errClientGone)
		select {
		case <-s.Done(): // the relay knows
		case <-time.After(flushTime):
		}
		cancel()
		<-attached
	}()
	select {
	case <-s.Opened():
		err = s.Err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil && !s.Stats().Opened {
		return c.targetFailure(target, err)
	} // else what came of it is the banner's
	c.ok(layerTarget, "%s reached through the relay in %v", target, took(began))
	return c.banner(target.String(), s)
}

// targetFailure says why the relay did not reach the target.
func (c *checker) targetFailure(target wire.Target, err error) error {
	f := &failure{layer: layerTarget, detail: err.Error(), next: "the relay's log has the cause"}
	relay := c.cfg.Dialer.Relay
	if e := explain(target.String(), relay, err); e != nil {
		f.detail = e.Error()
	}
	var refused *session.RefusedError
	switch {
	case errors.As(err, &refused):
		f.next = refusedNext(target.String(), relay, refused.Code)
	case errors.Is(err, context.DeadlineExceeded):
		f.detail = fmt.Sprintf("no answer for %s within %v", target, targetTime)
	}
	return f
}

// refusedNext is what to do about a relay that does not reach a target.
func refusedNext(target, relay string, code wire.Code) string {
	host, port, _ := net.SplitHostPort(target)
	switch code {
	case wire.CodeNotAllowed:
		next := fmt.Sprintf("add a rule to relay.allow there, such as %q", target)
		if name, _, _ := net.SplitHostPort(relay); strings.EqualFold(name, host) { // as for whoever has just set it up
			next += "; or, since it is the relay's own host, ask for localhost: ProxyCommand sshka-proxy localhost " + port
		}
		return next
	case wire.CodeNoSuchHost:
		return "the relay's resolver does not know the name: set HostName in ~/.ssh/config, or use an address"
	case wire.CodeRefused:
		return "is sshd running there, and is the port right?"
	case wire.CodeUnreachable:
		return "the relay has no route, or its firewall says no: look there"
	case wire.CodeTimeout:
		return fmt.Sprintf("a firewall drops it, or the host is down: from the relay, nc -vz %s %s", host, port)
	case wire.CodeBusy, wire.CodeSlowDown, wire.CodeShuttingDown:
		return "try again later"
	default:
		return "the relay's log has the cause"
	}
}

// deadliner is a connection that is read from.
type deadliner interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// banner looks whether an ssh server answers.
func (c *checker) banner(target string, conn deadliner) error {
	began := time.Now()
	c.begin(layerBanner, "waiting for "+target+" to say what it is")
	_ = conn.SetReadDeadline(began.Add(bannerTime))
	r := bufio.NewReaderSize(conn, bannerSize)
	var first string
	for range bannerLines {
		b, err := r.ReadSlice('\n')
		line := strings.TrimRight(string(b), "\r\n")
		if strings.HasPrefix(line, "SSH-") && err == nil {
			c.ok(layerBanner, "%s in %v", console.Printable(line), took(began))
			return nil
		}
		if first == "" {
			first = line
		}
		switch {
		case err == nil:
			continue
		case first != "":
		case errors.Is(err, os.ErrDeadlineExceeded):
			return &failure{layerBanner, fmt.Sprintf("%s says nothing for %v", target, bannerTime), "is it an ssh server, and not overloaded?"}
		case errors.Is(err, io.EOF):
			return &failure{layerBanner, target + " closed the connection without a word", "sshd refuses the relay's address, or has no room (MaxStartups): look at its log"}
		case isReset(err):
			return &failure{layerBanner, target + " reset the connection", "sshd, or a firewall before it, refuses the relay's address: look at its log"}
		default:
			return &failure{layerBanner, fmt.Sprintf("%s: %v", target, plain(err)), "look at the server's log"}
		}
		break
	}
	return &failure{layerBanner, fmt.Sprintf("%s says %q", target, clipped(first)), "that is no ssh server: check the port"}
}

// isReset reports whether a target reset its connection, here or at the relay.
func isReset(err error) bool {
	var reset *session.ResetError
	return errors.As(err, &reset) && reset.Code == wire.CodeTargetReset || errors.Is(err, syscall.ECONNRESET)
}

// clipped is the beginning of a long line.
func clipped(s string) string { return strings.ToValidUTF8(s[:min(len(s), 80)], "") }

// errNoSSH: there is no ssh to ask.
var errNoSSH = errors.New("ssh is not installed")

// sshConfig asks ssh what it would do for a host (ssh -G).
func sshConfig(ctx context.Context, host string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, sshTime)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "ssh", "-G", "--", host) //nolint:gosec // the host is whom a person asks about, and no option behind --
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, exec.ErrDot):
		return nil, errNoSSH
	case err != nil:
		why, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("%w: %s", err, why)
	}
	options := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, ok := options[name]; !ok {
			options[name] = value
		}
	}
	return options, nil
}

// asSSH returns the host and port that ssh would give to its ProxyCommand. A port
// that a person has named stands.
func asSSH(options map[string]string, host, port string) (string, string) {
	if name := options["hostname"]; name != "" {
		host = name
	}
	if port == "" {
		port = options["port"]
	}
	return host, port
}

// ssh looks whether ssh would end what the relay keeps.
func (c *checker) ssh(host string, window time.Duration) {
	options, err := c.answer.options, c.answer.err
	switch {
	case errors.Is(err, errNoSSH):
		c.ok(layerSSH, "is not installed: its ServerAliveInterval is not known")
		return
	case err != nil:
		c.warn(layerSSH, "has no configuration for "+host+": "+err.Error(), "correct ~/.ssh/config")
		return
	}
	interval, _ := strconv.Atoi(options["serveraliveinterval"])
	count, _ := strconv.Atoi(options["serveralivecountmax"])
	gives := time.Duration(interval*count) * time.Second
	probes := fmt.Sprintf("ServerAliveInterval %d × ServerAliveCountMax %d", interval, count)
	switch {
	case interval <= 0:
		c.ok(layerSSH, "ServerAliveInterval 0")
	case window <= 0:
		c.ok(layerSSH, "%s, and there is no relay that keeps a session for longer", probes)
	case gives >= window:
		c.ok(layerSSH, "gives up after %v without an answer (%s), which is not before the relay, %v", gives, probes, window)
	default:
		c.warn(layerSSH, fmt.Sprintf("gives up after %v without an answer (%s), the relay keeps the session for %v", gives, probes, window),
			"set ServerAliveInterval 0 for "+host+" in ~/.ssh/config")
	}
}

// direct looks at a target that is reached without a relay.
func (c *checker) direct(ctx context.Context, name, host, port string) error {
	began := time.Now()
	target, err := client.NewTarget(host, port)
	if err != nil {
		return &failure{layerTarget, err.Error(), "check HostName and Port in ~/.ssh/config"}
	}
	ctx, cancel := context.WithTimeout(ctx, targetTime)
	defer cancel()
	c.begin(layerTarget, "connecting to "+target.String())
	conn, err := c.dial(ctx, "tcp", target.String())
	if err != nil {
		u := whyUnreached(err)
		return &failure{layerTarget, target.String() + ": " + u.cause, u.next}
	}
	defer conn.Close()
	c.ok(layerTarget, "%s reached directly in %v", target, took(began))
	if err := c.banner(target.String(), conn); err != nil {
		return err
	}
	c.ssh(name, 0)
	return nil
}

// unreached is why a TCP connection was not made.
type unreached struct {
	rank        int // of several the highest says most
	cause, next string
}

// The causes that firewalls have a hand in.
const (
	causeRefused  = "connection refused"
	causeNoRoute  = "no route"
	causeNoAnswer = "no answer"
)

// whyUnreached tells apart what a person has to do different things about.
func whyUnreached(err error) unreached {
	var ne net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return unreached{1, "no such host", "check the name"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreached{4, causeRefused, "the host is there, and nothing listens on that port: does the program run, is the port right?"}
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return unreached{2, causeNoRoute, "is this computer online, the address right, the host up?"}
	case errors.Is(err, fs.ErrPermission):
		return unreached{2, "not permitted", "a firewall on this computer says no"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &ne) && ne.Timeout():
		return unreached{3, causeNoAnswer, "filtered: a firewall drops packets to that port, or the host is down"}
	}
	return unreached{1, plain(err).Error(), "look at this computer's network"}
}

// plain drops what net repeats: the address that is named already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return errors.New(dns.Err)
	}
	return err
}
