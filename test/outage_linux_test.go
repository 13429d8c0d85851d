package test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortOutage = 5 * time.Second // longer than strictBeats need to lose a link
	longOutage  = 30 * time.Second
)

// A black hole tells nobody: both ends are well, and nothing arrives.
func TestSessionsOutliveABlackHole(t *testing.T) {
	t.Parallel()
	needLab(t)
	for _, tt := range []struct {
		name, rule string
		outage     time.Duration
	}{
		{"both ways", "drop", shortOutage},
		{"upwards", upwards + " drop", shortOutage},
		{"downwards", downwards + " drop", shortOutage},
		{"both ways for long", "drop", longOutage},
		{"upwards for long", upwards + " drop", longOutage},
		{"downwards for long", downwards + " drop", longOutage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.outage > shortOutage {
				needTime(t)
			}
			l := newLab(t)
			c := l.startClients(t, nil, nil)
			c.endure("a black hole "+tt.name, silentPause, func() {
				l.obstruct(tt.rule)
				idle(tt.outage)
				l.obstruct("")
			})
			c.finish()
		})
	}
}

// As routers do that take no more of a connection after so much of it.
func TestSessionsOutliveABlackHoleInTheMiddleOfBulk(t *testing.T) {
	t.Parallel()
	const before, size = 2_000, 20_000_000 // kbytes until the hole; bytes
	l := newLab(t)
	l.obstruct(fmt.Sprintf("%s quota over %d kbytes drop", downwards, before))
	c := l.startClients(t, nil, nil)
	lost := c.lostLinks()
	c.echoes = append(c.echoes,
		l.commandEcho(t, "bulk on a link of its own", settings{"heartbeat": strictBeats, "socket": `""`}, bulk(size)),
		l.socksEcho(t, "bulk by SOCKS", bulk(size)))
	witness := c.echoes[0]
	witness.until(bulkPatience, "silence", func() bool { return time.Since(witness.last) > time.Second })
	began := time.Now().Add(-witness.silence())
	idle(shortOutage)
	l.obstruct("")
	c.goOn("a black hole in bulk", time.Since(began), silentPause, lost)
	c.finish()
}

// The relay's machine is there, and the relay is not: what restarts look like.
func TestSessionsOutliveARelayThatRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.startClients(t, nil, nil)
	c.endure("refused", noticedPause, func() {
		l.refuse(true)
		l.cutLinks(t)
		idle(shortOutage)
		c.near.expect(atLeast(1), "sshka_link_dials_total", `result="unreachable"`)
		l.refuse(false)
	})
	c.finish()
}

// A captive portal that answers in the relay's place is a relay that cannot be
// reached for now, and nothing that ends a session.
func TestSessionsOutliveACaptivePortal(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	asked := l.portal(t)
	c := l.startClients(t, nil, nil)
	known := l.read(t, "known_relays")
	c.endure("captured", noticedPause, func() {
		l.capturing(true)
		l.cutLinks(t)
		idle(shortOutage)
		c.near.expect(atLeast(1), "sshka_link_dials_total", `result="not_a_relay"`)
		l.capturing(false)
	})
	if asked.Load() < 2 {
		t.Errorf("the portal was asked %d times, want by both links", asked.Load())
	}
	if now := l.read(t, "known_relays"); now != known {
		t.Errorf("the known relays were %q and are %q", known, now)
	}
	c.finish()
}

// The kernel of a frozen relay's machine still accepts connections.
func TestSessionsOutliveAFrozenRelay(t *testing.T) {
	t.Parallel()
	needLab(t)
	for _, outage := range []time.Duration{shortOutage, 15 * time.Second} {
		t.Run(outage.String(), func(t *testing.T) {
			t.Parallel()
			if outage > shortOutage {
				needTime(t)
			}
			l := newLab(t)
			c := l.startClients(t, nil, nil)
			c.endure("frozen", silentPause, func() {
				c.relay.signal(unix.SIGSTOP)
				idle(outage)
				c.relay.signal(unix.SIGCONT)
			})
			c.finish()
		})
	}
}

// The relay is given by name, and the network that takes the link takes the
// resolver with it.
func TestSessionsOutliveTheirResolver(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	resolver := l.resolve(t, client, map[string]string{relayName: relayIP})
	c := l.startClients(t, nil, settings{"relay": fmt.Sprintf(`"%s:%d"`, relayName, relayPort)})
	if resolver.asked.Load() == 0 {
		t.Fatal("nobody asked for the relay's name")
	}
	asked := resolver.asked.Load()
	resolver.silent.Store(true)
	c.endure("the resolver is out, too,", noticedPause, func() { l.cutLinks(t) })
	if resolver.asked.Load() == asked {
		t.Error("nobody asked again")
	}
	resolver.silent.Store(false)
	c.endure("the resolver is back", noticedPause, func() { l.cutLinks(t) })
	c.finish()
}
