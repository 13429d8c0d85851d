package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
)

// demo shows, in one process and without set-up, why sshka-proxy is there: an ssh
// connection through a router that forgets idle flows dies, the same connection
// through proxy and relay lives, and goes on over another link when its link is
// cut or its network is left. unit is a second but for tests.
func demo(ctx context.Context, out io.Writer, unit time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s := &stage{out: out, start: time.Now(), unit: unit}

	server, err := newDemoServer(ctx)
	if err != nil {
		return err
	}
	wg.Go(server.serve)
	s.say("an ssh server of our own listens on %s", server.addr())
	s.say("between us and it stands a router that forgets a connection after %s of silence", s.units(3))

	s.title("1. ssh as you know it")
	if err := s.bare(ctx, server); err != nil {
		return fmt.Errorf("the bare connection: %w", err)
	}
	s.title("2. the same ssh through sshka-proxy, through the same router")
	if err := s.kept(ctx, server); err != nil {
		return fmt.Errorf("the connection through proxy and relay: %w", err)
	}
	s.title("Now with a host of your own")
	_, err = io.WriteString(out, nextSteps)
	return err
}

const nextSteps = `  all at once            sshka-proxy init --install USER@SERVER    # by the ssh that works today
  or on the server       sshka-relay fingerprint         # the name of its key
                         sshka-relay serve               # keys from ~/.ssh/authorized_keys
  and at yours           ssh -o ProxyCommand="sshka-proxy --relay SERVER %h %p" -o ServerAliveInterval=0 localhost
                         # logs in to SERVER's own sshd; README.md has the rest
`

// stage is where the demo plays.
type stage struct {
	out   io.Writer
	start time.Time
	unit  time.Duration

	mu sync.Mutex // one line at a time
}

func (s *stage) title(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n%s\n", text)
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "  %5.1fs  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// units is n units as a person reads them.
func (s *stage) units(n int) string { return (time.Duration(n) * s.unit).String() }

// wait lets n units pass.
func (s *stage) wait(ctx context.Context, n int) error {
	select {
	case <-time.After(time.Duration(n) * s.unit):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bare is the connection that dies. It is an error when it lives.
func (s *stage) bare(ctx context.Context, server *demoServer) error {
	m, err := newMiddlebox(ctx, server.addr(), 3*s.unit)
	if err != nil {
		return err
	}
	defer m.close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.addr())
	if err != nil {
		return err
	}
	sh, err := newDemoShell(conn, server)
	if err != nil {
		return err
	}
	defer sh.close()
	if err := s.talk(sh, "hello"); err != nil {
		return err
	}
	s.say("you go and fetch a coffee for %s ...", s.units(5))
	if err := s.wait(ctx, 5); err != nil {
		return err
	}
	err = sh.echo("are you still there?")
	switch {
	case err == nil:
		return errors.New("it outlived a router that had forgotten it")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), m.resets() > 0:
		s.say("you type, and ssh says: Connection reset by peer")
		return nil
	}
	return err
}

// talk types a line and shows its echo.
func (s *stage) talk(sh *demoShell, line string) error {
	start := time.Now()
	if err := sh.echo(line); err != nil {
		return err
	}
	s.say("you type %q, the echo is back in %s", line, time.Since(start).Round(100*time.Microsecond))
	return nil
}

// kept is the connection that lives: first idle, then through a black hole.
func (s *stage) kept(ctx context.Context, server *demoServer) error {
	file := config.Defaults()
	cfg := client.Config{
		Dialer: file.Client(agent(), func(string) string { return "" }).Dialer,
		Heartbeat: heartbeat.Policy{
			Interval: s.unit,
			Timeout:  max(heartbeat.MinInterval, s.unit/2),
			CountMax: 10,
		},
		Trace: &client.Trace{
			Link: link.Trace{
				BeatAnswered: func(rtt time.Duration) { s.say("  beat, answered in %s", rtt.Round(100*time.Microsecond)) },
				BeatMissed:   func(row int) { s.say("  beat MISSED, %d in a row", row) },
			},
			LinkLost: func(err *link.LostError) {
				if err.Reason != link.Shutdown { // the end of the demo
					s.say("  link lost: %s", err.Reason)
				}
			},
			Session: session.Trace{Resumed: func(_ *session.Session, pause time.Duration, replayed uint64) {
				s.say("  session RESUMED over another link after %s, %d bytes sent again", pause.Round(100*time.Microsecond), replayed)
			}},
		},
	}
	var box *middlebox
	e, err := embed(file, &cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	relayLn, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if box, err = newMiddlebox(ctx, relayLn.Addr().String(), 3*s.unit); err != nil {
		return err
	}
	defer box.close()
	cfg.Dialer.Relay = box.addr()
	cfg.Dialer.NetDial = nil
	c, err := client.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = e.relay.Serve(ctx, relayLn) })
	wg.Go(func() { _ = c.Run(ctx) }) // DialContext returns the error
	return s.through(ctx, c, server, box)
}

func (s *stage) through(ctx context.Context, c *client.Client, server *demoServer, box *middlebox) error {
	host, port, _ := net.SplitHostPort(server.addr())
	conn, err := c.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	sh, err := newDemoShell(conn, server)
	if err != nil {
		return err
	}
	defer sh.close()
	if err := s.talk(sh, "hello"); err != nil {
		return err
	}
	s.say("coffee again, %s; the link beats every %s:", s.units(5), s.units(1))
	if err := s.wait(ctx, 5); err != nil {
		return err
	}
	if err := s.talk(sh, "are you still there?"); err != nil {
		return err
	}
	s.say("now the path swallows everything for %s:", s.units(2))
	box.swallow(true)
	if err := s.wait(ctx, 2); err != nil {
		return err
	}
	box.swallow(false)
	if err := s.talk(sh, "and now?"); err != nil {
		return err
	}
	s.say("no reset, no new login: %d connections forgotten by this router", box.resets())
	if box.resets() > 0 {
		return errors.New("the router forgot a link that beats: " + strconv.Itoa(box.resets()) + " resets")
	}
	return s.worse(ctx, sh, box)
}

// worse is what no heartbeat helps against: the link itself is lost.
func (s *stage) worse(ctx context.Context, sh *demoShell, box *middlebox) error {
	s.title("3. worse: the link itself is lost, and the ssh session goes on over the next")
	s.say("somebody pulls the cable: the link is reset at both ends")
	box.cut()
	if err := s.talk(sh, "with a cut link?"); err != nil {
		return err
	}
	s.say("you leave the house: another network, another address, and nobody tells the link")
	box.move(elsewhere())
	if err := s.wait(ctx, 1); err != nil {
		return err
	}
	if err := s.talk(sh, "from the train?"); err != nil {
		return err
	}
	s.say("still the same login")
	return nil
}

// elsewhere is another address of this machine, where there is one. Linux has all
// of 127.0.0.0/8.
func elsewhere() net.IP {
	if runtime.GOOS == "linux" {
		return net.IPv4(127, 0, 0, 2)
	}
	return net.IPv4(127, 0, 0, 1)
}
