package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	proxyclient "github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// How many there are, unless the environment says otherwise or the system allows too few
// descriptors.
const (
	scaleLinksEnv    = "SSHKA_SCALE_LINKS"
	scaleSessionsEnv = "SSHKA_SCALE_SESSIONS"
	scaleLinks       = 10_000
	scaleSessions    = 50_000
	stormLinks       = 5000
	stormTime        = 30 * time.Second // within which all of them are back

	sources  = 1000 // addresses that links come from: one has not enough ports, and a storm has many
	diallers = 8    // threads that connect
)

// multitude is many proxies in this process, each with a link to one relay.
type multitude struct {
	t       *testing.T
	l       *lab
	dialer  transport.Dialer
	beat    time.Duration
	ctx     context.Context //nolint:containedctx // of the proxies: ends with the test
	running sync.WaitGroup
	dialled atomic.Int64
	wishes  chan wish
	over    chan struct{} // closed when nobody wishes any more
	clients []*proxyclient.Client

	up, ever, lost, beats, failed, gaveUp atomic.Int64
}

// newMultitude returns one without proxies. The relay is in the namespace that they
// dial from.
func newMultitude(t *testing.T, l *lab, beat time.Duration) *multitude {
	t.Helper()
	identities, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{l.path("user")}})
	l.check(err)
	where := net.JoinHostPort(relayIP, strconv.Itoa(relayPort))
	m := &multitude{t: t, l: l, beat: beat, wishes: make(chan wish), over: make(chan struct{})}
	m.dialer = transport.Dialer{
		Relay: where, Trust: transport.Trust{Pins: []string{relayPin(t, l, where)}}, NetDial: m.dial,
		Identities: func(context.Context) (*keyauth.Identities, error) { return identities, nil },
	}
	var dialling sync.WaitGroup
	var stop context.CancelFunc
	m.ctx, stop = context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		m.running.Wait()
		close(m.over)
		dialling.Wait()
	})
	for range diallers {
		dialling.Go(func() {
			if err := m.fulfil(); err != nil {
				t.Errorf("lab: %v", err)
			}
		})
	}
	return m
}

// wish is a connection that a proxy wants.
type wish struct {
	ctx     context.Context //nolint:containedctx // of the one who waits for it
	address string
	got     chan<- dialResult
}

type dialResult struct {
	conn net.Conn
	err  error
}

// dial has somebody connect who is in the namespace: a thread for every attempt would
// cost more than the attempt.
func (m *multitude) dial(ctx context.Context, _, address string) (net.Conn, error) {
	got := make(chan dialResult, 1)
	select {
	case m.wishes <- wish{ctx, address, got}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r := <-got
	return r.conn, r.err
}

// fulfil dials in the namespace until the proxies have ended.
func (m *multitude) fulfil() error {
	return inNamespace(m.l.ns(relay), func() error {
		for {
			select {
			case w := <-m.wishes:
				from := int(m.dialled.Add(1)) % sources
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(from/250), byte(1+from%250))}}
				conn, err := d.DialContext(w.ctx, "tcp", w.address)
				w.got <- dialResult{conn, err}
			case <-m.over:
				return nil
			}
		}
	})
}

// raise starts proxies until there are so many, and waits for their links.
func (m *multitude) raise(links int) {
	m.t.Helper()
	const together = 32 // handshakes at once
	trace := &proxyclient.Trace{
		LinkUp:   func(*transport.Conn) { m.up.Add(1); m.ever.Add(1) },
		LinkLost: func(*link.LostError) { m.up.Add(-1); m.lost.Add(1) },
		Dialled: func(_ time.Duration, err error) {
			if err != nil {
				m.failed.Add(1)
			}
		},
	}
	trace.Link.BeatSent = func(uint64) { m.beats.Add(1) }
	for len(m.clients) < links {
		c, err := proxyclient.New(proxyclient.Config{Dialer: &m.dialer, Heartbeat: heartbeat.Policy{Interval: m.beat}, Trace: trace})
		m.l.check(err)
		m.clients = append(m.clients, c)
		m.running.Go(func() {
			if err := c.Run(m.ctx); err != nil {
				m.gaveUp.Add(1)
			}
		})
		m.await(len(m.clients)-together, patience)
	}
	m.await(links, time.Minute)
}

// await waits until so many links are up, and returns how long that took.
func (m *multitude) await(links int, most time.Duration) time.Duration {
	m.t.Helper()
	began := time.Now()
	for ; int(m.up.Load()) < links; time.Sleep(time.Millisecond) {
		if time.Since(began) > most {
			m.t.Fatalf("%d links of %d are up after %s; %d attempts have failed", m.up.Load(), links, most, m.failed.Load())
		}
	}
	return time.Since(began)
}

// scaled returns a number of the environment, or else most.
func scaled(t *testing.T, env string, most int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return most
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: write a number from 1", env, text)
	}
	return n
}

// echoTargets listens on several ports of the relay's namespace, since one has not
// enough for all sessions, and sends back what comes.
func echoTargets(t *testing.T, l *lab) (addresses []string) {
	t.Helper()
	const ports = 8
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	for range ports {
		var ln net.Listener
		l.check(inNamespace(l.ns(relay), func() (err error) {
			ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(relayIP, "0"))
			return err
		}))
		t.Cleanup(func() { ln.Close() })
		addresses = append(addresses, ln.Addr().String())
		running.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				running.Go(func() { // without io.Copy, which opens a pipe for each
					defer c.Close()
					var b [64]byte
					for {
						n, err := c.Read(b[:])
						if err != nil {
							return
						}
						if _, err := c.Write(b[:n]); err != nil {
							return
						}
					}
				})
			}
		})
	}
	return addresses
}

// said lets a line make its way there and back.
func said(c net.Conn, text string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != text {
		return fmt.Errorf("got %q back, sent %q", back, text)
	}
	return c.SetDeadline(time.Time{})
}

// TestOneRelayHoldsThousandsOfLinksAndSessions shows what each of them costs, at
// several numbers: docs/performance.md has the figures. It fails when a link is lost
// or a session does not work.
func TestOneRelayHoldsThousandsOfLinksAndSessions(t *testing.T) {
	needTime(t)
	const spare, settled, beat = 1000, 10 * time.Second, 20 * time.Second
	allowed := raiseDescriptors(t)
	links := min(scaled(t, scaleLinksEnv, scaleLinks), allowed-spare)
	sessions := min(scaled(t, scaleSessionsEnv, scaleSessions), allowed-spare-links) // each takes one here and one of the relay
	l := newLab(t)
	l.check(sysctl(l.ns(relay), "net.ipv4.ip_local_port_range", "10000 65000"))
	targets := echoTargets(t, l)
	limits := settings{ // one key has all of them, and a quarter of the memory
		"limits": "{links_per_key: 100000, sessions_per_key: 100000, opens_per_second: 100000, dials_per_key: 1024, memory: 4GiB}",
		"log":    "{level: warn}",
	}
	server := &peer{roots: []*process{l.startRelay(t, relayPort, unlimited.with(limits))}}
	m := newMultitude(t, l, beat)
	look := func() float64 {
		time.Sleep(settled)
		bytes, err := resident(server.pids())
		l.check(err)
		return bytes
	}
	const first = 10 // what they bring is there for all
	m.raise(first)
	empty := look()
	t.Logf("the relay with %d links: %.1f MiB; the system allows %d descriptors", first, empty/(1<<20), allowed)
	for _, n := range stepsTo(links, 1000, 3000) {
		began, used := time.Now(), server.used()
		before := len(m.clients)
		m.raise(n)
		took, cost := time.Since(began), server.used()-used
		bytes := look() - empty
		sent, used, began := m.beats.Load(), server.used(), time.Now()
		time.Sleep(beat)
		beats, used := m.beats.Load()-sent, server.used()-used
		t.Logf("%5d links: %.1f MiB, %.1f KiB each; %.0f handshakes/s, %.2f ms of processor each; %d beats in %s took %s: %.0f µs each, %.2f %% of a core",
			n, bytes/(1<<20), bytes/1024/float64(n-first), float64(n-before)/took.Seconds(), cost.Seconds()*1e3/float64(n-before),
			beats, beat, used, used.Seconds()*1e6/float64(beats), used.Seconds()/time.Since(began).Seconds()*100)
	}
	empty = look()
	var all []net.Conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for _, n := range stepsTo(sessions, 5000, 20_000) {
		began, used, before := time.Now(), server.used(), len(all)
		all = append(all, m.open(targets, n-before)...)
		took, cost := time.Since(began), server.used()-used
		bytes := look() - empty
		t.Logf("%5d sessions on %d links: %.1f MiB, %.1f KiB each at the relay; %.0f/s, %.2f ms of processor each",
			n, links, bytes/(1<<20), bytes/1024/float64(n), float64(n-before)/took.Seconds(), cost.Seconds()*1e3/float64(n-before))
	}
	for i, c := range all {
		if err := said(c, "still here\n"); err != nil {
			t.Fatalf("session %d of %d: %v", i, len(all), err)
		}
	}
	if n := m.lost.Load(); n > 0 {
		t.Errorf("%d links were lost", n)
	}
}

// stepsTo are the numbers at which is measured.
func stepsTo(most int, smaller ...int) (all []int) {
	for _, n := range smaller {
		if n < most {
			all = append(all, n)
		}
	}
	return append(all, most)
}

// open opens sessions, over each link in turn.
func (m *multitude) open(targets []string, count int) []net.Conn {
	m.t.Helper()
	const together = 32
	all := make([]net.Conn, count)
	var next atomic.Int64
	var running sync.WaitGroup
	for range together {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				c, err := m.clients[i%len(m.clients)].DialContext(m.ctx, "tcp", targets[i%len(targets)])
				if err == nil {
					err = said(c, "hello\n")
				}
				if err != nil {
					m.t.Errorf("session %d: %v", i, err)
					return
				}
				all[i] = c
			}
		})
	}
	running.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
	return all
}

// A relay is killed and comes back, and with it all its proxies at once: by their own
// back-off, and within its limits for handshakes.
func TestAStormOfLinksIsOverSoon(t *testing.T) {
	needTime(t)
	links := min(scaled(t, scaleLinksEnv, stormLinks), raiseDescriptors(t)-1000)
	l := newLab(t)
	l.check(sysctl(l.ns(relay), "net.ipv4.ip_local_port_range", "10000 65000"))
	limits := settings{"limits": "{links_per_key: 100000}", "log": "{level: error}"} // they share one key here, and everything else is as ever
	server := l.startRelay(t, relayPort, limits)
	m := newMultitude(t, l, 20*time.Second)
	m.raise(links)

	server.signal(unix.SIGKILL)
	<-server.ended
	for deadline := time.Now().Add(patience); m.up.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d links are up without a relay", m.up.Load())
		}
	}
	began := time.Now()
	idle(3 * time.Second) // by now every proxy has tried in vain
	inVain := m.failed.Load()
	down := time.Since(began)
	server = l.startRelay(t, relayPort, limits)
	began = time.Now()
	half := m.await(links/2, stormTime)
	m.await(links, stormTime-half)
	took := time.Since(began)
	used := (&peer{roots: []*process{server}}).used()
	t.Logf("%d links: down for %s, %d attempts in vain; then half of them up after %s, all after %s, with %d attempts that failed and %s of the relay's processor",
		links, down.Round(time.Millisecond), inVain, half.Round(time.Millisecond), took.Round(time.Millisecond), m.failed.Load()-inVain, used)
	if n := m.gaveUp.Load(); n > 0 {
		t.Errorf("%d proxies have given up", n)
	}
	if n := m.lost.Load(); n != int64(links) {
		t.Errorf("%d links were lost, want the %d that the relay took with it", n, links)
	}
}
