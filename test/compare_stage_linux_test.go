package test

import (
	"testing"
	"time"
)

// stage is where peers are compared: clients in near, relay and target in far.
type stage struct {
	*comparison
	t      *testing.T
	name   string
	l      *lab
	near   role
	line   *wan // nil where near is far
	target *answerer
	direct *peer
	peers  []*peer // direct is the first
}

// newStage builds a lab for a scenario, without peers.
func (c *comparison) newStage(s *scenario) *stage {
	c.t.Helper()
	st := &stage{comparison: c, t: c.t, name: s.name, l: newLab(c.t), near: relay}
	if s.line != nil {
		st.near = client
		st.line = st.l.lengthen(c.t, *s.line, *s.line)
	}
	for _, r := range []role{st.near, relay} {
		if s.control != "" {
			st.l.check(sysctl(st.l.ns(r), "net.ipv4.tcp_congestion_control", s.control))
		}
		// Thousands of sessions leave as many ports behind for a minute.
		st.l.check(sysctl(st.l.ns(r), "net.ipv4.ip_local_port_range", "10000 65000"))
	}
	st.target = startTarget(c.t, st.l, relay)
	st.direct = &peer{name: peerDirect, connect: connect0(0)}
	return st
}

// eachRound lets every peer have its turn, rounds times, each time beginning with another
// one, so that what a busy machine does meets all of them.
func (st *stage) eachRound(measure func(round int, p *peer)) {
	st.t.Helper()
	for round := range st.how.Rounds {
		st.progress("%s: round %d of %d", st.name, round+1, st.how.Rounds)
		for i := range st.peers {
			p := st.peers[(i+round)%len(st.peers)]
			measure(round, p)
			st.settle()
		}
	}
}

// note keeps what was measured.
func (st *stage) note(round int, p *peer, m measure, value float64) {
	st.report.add(st.name, p.name, m, round, value)
}

// dial opens a session to a port of the target.
func (st *stage) dial(p *peer, port int) (*wire, error) {
	if p.open != nil {
		return p.open(port)
	}
	all, err := sockets(st.l.ns(st.near), 1)
	if err != nil {
		return nil, err
	}
	return p.connect(all[0], port)
}

// settle waits until what the last measurement has left on the line is gone.
func (st *stage) settle() {
	if st.line == nil {
		time.Sleep(50 * time.Millisecond)
		return
	}
	const (
		look  = 100 * time.Millisecond
		quiet = 10 // packets
		long  = 15 * time.Second
	)
	passed := func() int { return st.line.up.traffic().passed + st.line.down.traffic().passed }
	last, calm := passed(), 0
	for deadline := time.Now().Add(long); calm < 4 && time.Now().Before(deadline); {
		time.Sleep(look)
		now := passed()
		if now-last <= quiet {
			calm++
		} else {
			calm = 0
		}
		last = now
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
