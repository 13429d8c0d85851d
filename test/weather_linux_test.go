package test

import (
	"testing"
	"time"
)

// weather is a bad line, and what talks over it.
type weather struct {
	line  conditions
	chat  talk          // of the clients; none is chat
	bulk  int           // bytes, of two more
	beats string        // of the proxies; none is strictBeats
	lasts time.Duration // at least
	heard int           // lines that each client hears in that time at least; 0 where speed is not promised
}

// weathered lets clients talk over a line, and returns what it did, each way, and
// how many links were lost, counted at both ends.
func weathered(t *testing.T, w weather) (up, down traffic, lost float64) {
	t.Helper()
	l := newLab(t)
	line := l.lengthen(t, w.line, w.line)
	how := w.chat
	if how.lines == 0 {
		how = chat
	}
	beats := settings{"heartbeat": strictBeats}
	if w.beats != "" {
		beats["heartbeat"] = w.beats
	}
	c := l.startClientsThat(t, how, nil, beats)
	own, gate := beats.with(settings{"socket": `""`}), make(chan struct{})
	for _, e := range []*echo{
		l.commandEcho(t, "bulk on a link of its own", own, bulk(w.bulk).behind(gate)),
		l.socksEcho(t, "bulk by SOCKS", bulk(w.bulk).behind(gate)),
	} {
		e.hears(1, patience)
		c.echoes = append(c.echoes, e)
	}
	before := make([]int, len(c.echoes))
	for i, e := range c.echoes {
		before[i] = e.heardLines()
	}
	close(gate)
	idle(w.lasts)
	for i, e := range c.echoes {
		if heard := e.heardLines() - before[i]; heard < w.heard && e.how.total == 0 {
			t.Errorf("%s: %d lines came back in %s, want at least %d", e.name, heard, w.lasts, w.heard)
		}
	}
	for _, reason := range []string{"missed_beats", "timeout", "reset", "network", "tls", "protocol"} { // a bulk that is done closes its own
		label := `reason="` + reason + `"`
		lost += c.near.read("sshka_links_lost_total", label) + c.far.read("sshka_links_lost_total", label)
	}
	missed := c.near.read("sshka_heartbeats_missed_total")
	up, down = line.up.traffic(), line.down.traffic()
	t.Logf("pauses of %v, %v links lost, %v beats missed, up %+v, down %+v", c.pauses(), lost, missed, up, down)
	line.set(conditions{}) // what remains comes fast
	c.finish()
	return up, down, lost
}

func TestSessionsOutliveTenPercentLoss(t *testing.T) {
	t.Parallel()
	up, down, _ := weathered(t, weather{
		line: conditions{delay: 10 * time.Millisecond, loss: 0.1},
		bulk: pick(200_000, 2_000_000), lasts: pick(8*time.Second, 40*time.Second), heard: pick(100, 500),
	})
	if up.lost < 50 || down.lost < 50 {
		t.Error("the line was not that bad, so this proves nothing")
	}
}

// A line that is far away and shaky is not dead.
func TestADistantLineIsNotGivenUp(t *testing.T) {
	t.Parallel()
	up, down, lost := weathered(t, weather{
		line: conditions{delay: 130 * time.Millisecond, jitter: 40 * time.Millisecond, loss: 0.01, reorder: 0.02, late: 40 * time.Millisecond},
		bulk: pick(500_000, 5_000_000), lasts: pick(8*time.Second, 40*time.Second), heard: pick(100, 500),
	})
	if up.lost == 0 || down.lost == 0 || up.reordered == 0 || down.reordered == 0 {
		t.Error("the line was not that bad, so this proves nothing")
	}
	if lost > 0 {
		t.Errorf("%v links were lost, counted at both ends", lost)
	}
}

// A slow line that is full both ways makes every beat wait, and is not dead.
func TestASlowFullLineIsNotGivenUp(t *testing.T) {
	t.Parallel()
	up, down, lost := weathered(t, weather{
		line:  conditions{rate: 64_000, queue: 16_000, delay: 20 * time.Millisecond},
		beats: "{interval: 1s, timeout: 5s, count_max: 2}", // a retransmission takes seconds here
		chat:  talk{lines: 1, every: 250 * time.Millisecond}, bulk: pick(60_000, 300_000), lasts: pick(12*time.Second, 60*time.Second),
	})
	if up.waited < 500*time.Millisecond || down.waited < 500*time.Millisecond {
		t.Errorf("nothing waited longer than %s and %s for its turn, so this proves nothing", up.waited, down.waited)
	}
	if lost > 0 {
		t.Errorf("%v links were lost, counted at both ends", lost)
	}
}

// TCP's checksum lets damage pass. TLS notices: the link is lost, and no session
// hears a wrong byte.
func TestSessionsOutliveDamagedSegments(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	line := l.lengthen(t, conditions{}, conditions{})
	c := l.startClientsThat(t, talk{lines: 20, every: 10 * time.Millisecond}, nil, nil)
	for i := range pick(4, 30) {
		way := []*crossing{line.up, line.down}[i%2]
		c.endure("damage", noticedPause, func() {
			lost := c.lostLinks()
			way.set(conditions{corrupt: 0.02})
			c.near.expectSum(atLeast(lost+1), "sshka_links_lost_total")
			way.set(conditions{})
		})
	}
	seen := c.near.read("sshka_links_lost_total", `reason="tls"`) + c.far.read("sshka_links_lost_total", `reason="tls"`)
	t.Logf("up %+v, down %+v; %v times it was TLS that noticed", line.up.traffic(), line.down.traffic(), seen)
	if seen == 0 || line.up.traffic().corrupted == 0 || line.down.traffic().corrupted == 0 {
		t.Error("TLS noticed nothing, so this proves nothing")
	}
	c.finish()
}
