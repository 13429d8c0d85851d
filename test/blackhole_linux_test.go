package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// swallow makes a black hole between the client and the relays, or heals it.
func (l *lab) swallow(on bool) {
	l.t.Helper()
	verdict := "accept"
	if on {
		verdict = "drop"
	}
	l.check(runIn(l.ns(inet), fmt.Sprintf(`
table inet hole
flush table inet hole
table inet hole {
	chain forward {
		type filter hook forward priority filter; policy %s;
	}
}
`, verdict), "nft", "-f", "-"))
}

// One black hole, two links: what one gives up, the other, which is more patient,
// outlives. Both count every beat that was missed, at both ends.
func TestABlackHoleIsCountedAndSurvived(t *testing.T) {
	t.Parallel()
	const (
		strict  = "{interval: 1s, timeout: 1s, count_max: 3}"
		patient = "{interval: 1s, timeout: 1s, count_max: 30}"

		patientPort       = relayPort + 1
		patientRelayAdmin = relayAdmin + 10
		patientProxyAdmin = proxyAdmin + 10
	)
	l := newLab(t)
	l.startRelay(t, relayPort, settings{"heartbeat": strict})
	l.startRelay(t, patientPort, settings{"heartbeat": patient, "admin": fmt.Sprintf(`"127.0.0.1:%d"`, patientRelayAdmin)})
	quick := settings{"heartbeat": strict}
	slow := settings{
		"heartbeat": patient, "relay": fmt.Sprintf(`"%s:%d"`, relayIP, patientPort),
		"listen": "[]", "admin": fmt.Sprintf(`"127.0.0.1:%d"`, patientProxyAdmin), "socket": l.path("slow.sock"),
	}
	l.startDaemon(t, quick)
	l.startDaemon(t, slow)
	near, far := l.numbers(t, client, proxyAdmin), l.numbers(t, relay, relayAdmin)
	slowNear, slowFar := l.numbers(t, client, patientProxyAdmin), l.numbers(t, relay, patientRelayAdmin)
	lost := []string{"sshka_links_lost_total", `reason="missed_beats"`}

	given := l.ssh(t, l.through(t, quick), targetIP, "cat")
	kept := l.ssh(t, append(l.passing(t, slow), targetIP, "cat")...)
	for _, p := range []*process{given, kept} {
		p.send("before\n")
		p.expect("before")
	}
	for _, n := range []numbers{near, far, slowNear, slowFar} {
		if missed := n.read("sshka_heartbeats_missed_total"); missed != 0 {
			t.Fatalf("%v beats are missed on a whole path", missed)
		}
	}

	l.swallow(true)
	for _, n := range []numbers{near, far} {
		n.expect(equal(1), lost[0], lost[1])
		if missed := n.read("sshka_heartbeats_missed_total"); missed < 3 {
			t.Errorf("%s: %v beats are missed, and 3 lose a link", n.r, missed)
		}
	}
	near.expect(equal(0), "sshka_link_up")
	if status, why := l.get(t, client, proxyAdmin, "/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %q without a link, want 503", status, why)
	}
	if status, why := l.get(t, relay, relayAdmin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz of the relay: %d %q, want 200: it is not its fault", status, why)
	}
	for _, n := range []numbers{slowNear, slowFar} {
		n.expect(atLeast(1), "sshka_heartbeats_missed_total")
	}

	l.swallow(false)
	near.expect(equal(1), "sshka_link_up")
	if status, why := l.get(t, client, proxyAdmin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz: %d %q with the link back, want 200", status, why)
	}
	again := l.ssh(t, l.through(t, quick), targetIP, "echo here")
	again.wait(0)
	if got := again.stdout.String(); got != "here\n" {
		t.Errorf("got %q after the black hole", got)
	}
	for _, p := range []*process{given, kept} { // one outlived its link, the other had no need to
		p.send("after\n")
		p.expect("after")
		p.stdin.Close()
		p.wait(0)
		l.quiet(t, p)
	}
	l.expectLinks(t, relayPort, 1)
	for _, n := range []numbers{slowNear, slowFar} {
		// A second link may have been the first to hear anything, and taken over.
		if got := n.read(lost[0], lost[1]); got > 1 {
			t.Errorf("%s: %v links lost, although each has 30 beats", n.r, got)
		}
	}
}

// Where the relay keeps no session without its link, a ProxyCommand tells why its
// session ended.
func TestABlackHoleEndsASessionWithOneClearLine(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, settings{"session": "{window: 0}"})
	p := l.ssh(t, l.through(t, settings{"heartbeat": "{interval: 1s, timeout: 1s, count_max: 3}"}), targetIP, "cat")
	p.send("before\n")
	p.expect("before")
	l.swallow(true)
	p.wait(255)
	line := oneLine(t, p)
	for _, word := range []string{relayIP, "lost", "missed"} {
		if !strings.Contains(line, word) {
			t.Errorf("%q does not say %q", line, word)
		}
	}
	t.Log(line)
}
