package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	proxyclient "github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

var idleMemory = measure{Name: "an idle session, both ends", Unit: "KiB", digits: 1}

// idlers compares what an idle session costs. Every peer gets a stage of its own: what a
// program has kept from earlier work would hide what it needs.
func (c *comparison) idlers(s *scenario) {
	for _, start := range []starter{startSshka, startSSHForward, startFrp, startChisel, startStunnel, startSocat, startHaproxy} {
		st := c.newStage(s)
		for _, p := range start(st) {
			st.idle(p)
			for _, r := range p.roots { // the next one shall have the machine
				r.signal(15)
				r.endsWithin(patience)
			}
		}
	}
}

func (st *stage) idle(p *peer) {
	st.t.Helper()
	const first, together = 10, 16 // what the first ones bring is there for all
	count := st.how.sessions
	if p.forks {
		count = st.how.forked
	}
	st.progress("%s: %d of %s", st.name, count, p.name)
	wires := make([]*wire, first+count)
	defer func() {
		for _, w := range wires {
			if w != nil {
				w.Close()
			}
		}
	}()
	open := func(from, to int) {
		var running sync.WaitGroup
		var next atomic.Int64
		for range together {
			running.Go(func() {
				for i := from + int(next.Add(1)) - 1; i < to; i = from + int(next.Add(1)) - 1 {
					w, err := st.openEcho(p)
					if err != nil {
						st.t.Error(err)
						return
					}
					wires[i] = w
				}
			})
		}
		running.Wait()
	}
	look := func() float64 {
		time.Sleep(st.how.settled)
		bytes, err := resident(p.pids())
		if err != nil {
			st.t.Fatal(err)
		}
		return bytes
	}
	open(0, first)
	before := look()
	open(first, first+count)
	if st.t.Failed() {
		st.t.FailNow()
	}
	after := look()
	st.report.add(st.name, p.name, idleMemory.of(count), 0, (after-before)/1024/float64(count))
	if _, err := echoes(wires[len(wires)-1], time.Nanosecond, 0); err != nil {
		st.t.Errorf("%s: an idle session is of no use: %v", p.name, err)
	}
}

var (
	linkMemory = measure{Name: "an idle link, at the relay", Unit: "KiB", digits: 1}
	beatCost   = measure{Name: "a beat, at the relay", Unit: "µs", digits: 0}
	beatShare  = measure{Name: "beats of 10,000 links every 20 s, at the relay", Unit: "% of a core", digits: 2}
)

// idleLinks measures what idle links cost a relay. Their proxies live in this process.
func (c *comparison) idleLinks(s *scenario) {
	const together, sources = 32, 4
	st := c.newStage(s)
	server := &peer{name: peerSOCKS, roots: []*process{st.l.startRelay(st.t, relayPort, unlimited)}}
	where := fmt.Sprintf("%s:%d", relayIP, relayPort)
	identities, err := keyauth.Load(st.t.Context(), keyauth.Sources{List: []string{st.l.path("user")}})
	st.l.check(err)
	pin := relayPin(st.t, st.l, where)

	ctx, stop := context.WithCancel(st.t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var up, lost, beats atomic.Int64
	trace := &proxyclient.Trace{
		LinkUp: func(*transport.Conn) { up.Add(1) },
	}
	trace.Link.BeatSent = func(uint64) { beats.Add(1) }
	trace.LinkLost = func(err *link.LostError) { lost.Add(1) }

	gate := make(chan struct{}, together) // handshakes at once
	var dialled atomic.Int64
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		gate <- struct{}{}
		defer func() { <-gate }()
		// One address has not enough ports for all.
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+dialled.Add(1)%sources))}
		err = inNamespace(st.l.ns(st.near), func() error {
			conn, err = (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	raiseOne := func() {
		proxy, err := proxyclient.New(proxyclient.Config{
			Dialer: &transport.Dialer{
				Relay: where, Trust: transport.Trust{Pins: []string{pin}}, NetDial: dial, HandshakeTimeout: time.Minute, ConnectTimeout: time.Minute,
				Identities: func(context.Context) (*keyauth.Identities, error) { return identities, nil },
			},
			Heartbeat: heartbeat.Policy{Interval: st.how.beat},
			Trace:     trace,
		})
		st.l.check(err)
		running.Go(func() { proxy.Run(ctx) })
	}
	await := func(count int) {
		for deadline := time.Now().Add(time.Minute); int(up.Load()) < count; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				st.t.Fatalf("%d links are up, and the next does not come", up.Load())
			}
		}
	}
	raise := func(to int) {
		for have := int(up.Load()); have < to; have++ {
			raiseOne()
			await(have - together)
		}
		await(to)
	}
	look := func() float64 {
		time.Sleep(st.how.settled)
		bytes, err := resident(server.pids())
		st.l.check(err)
		return bytes
	}
	const first = 10
	raise(first)
	before := look()
	count := st.how.links
	st.progress("%s: %d links", st.name, count)
	raise(first + count)
	after := look()
	st.report.add(st.name, peerSOCKS, linkMemory.of(count), 0, (after-before)/1024/float64(count))

	time.Sleep(st.how.beat) // beats are spread by now, and handshakes forgotten
	sent, used, since := beats.Load(), server.used(), time.Now()
	time.Sleep(st.how.beats)
	cost := server.used() - used
	each := cost.Seconds() / float64(beats.Load()-sent)
	st.progress("%s: %d beats in %s took the relay %s", st.name, beats.Load()-sent, time.Since(since).Round(time.Millisecond), cost)
	if lost.Load() > 0 {
		st.t.Errorf("%d links were lost", lost.Load())
	}
	st.report.add(st.name, peerSOCKS, beatCost, 0, each*1e6)
	share := each * 10_000 / 20 * 100
	if count == 10_000 && st.how.beat == 20*time.Second {
		share = cost.Seconds() / st.how.beats.Seconds() * 100
	} else {
		st.report.remark("the share of a core that beats take is reckoned from %d links that beat every %s", count, st.how.beat)
	}
	st.report.add(st.name, peerSOCKS, beatShare, 0, share)
}

// relayPin returns the fingerprint that the lab knows a relay by.
func relayPin(t *testing.T, l *lab, relay string) string {
	t.Helper()
	text, err := os.ReadFile(l.path("known_relays"))
	l.check(err)
	for line := range strings.Lines(string(text)) {
		if name, pin, _ := strings.Cut(strings.TrimSpace(line), " "); name == relay {
			return pin
		}
	}
	t.Fatalf("lab: %s is not known", relay)
	return ""
}
