package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sshka/sshka-proxy/proxy/session"
)

// sessions sums up what sessions know of themselves whenever somebody scrapes,
// so that nothing has to be counted while bytes flow.
type sessions struct {
	role             Role
	now, bytes, held *prometheus.Desc

	// mu guards all below. It is taken with a session's lock held, so nothing is
	// asked of a session while it is.
	mu             sync.Mutex
	live           map[*session.Session]struct{}
	sent, received uint64 // by sessions that have ended
}

func newSessions(m *Metrics) *sessions {
	describe := func(n *number, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(n.name, n.help, labels, m.labels(nil))
	}
	return &sessions{
		role:  m.role,
		now:   describe(sessionsNow, sessionsNow.label),
		bytes: describe(sessionBytes, sessionBytes.label),
		held:  describe(replayBuffer),
		live:  make(map[*session.Session]struct{}),
	}
}

// opened takes note of a session.
func (c *sessions) opened(s *session.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[s] = struct{}{}
}

// ended keeps what a session has carried, and forgets the session. One that was
// never opened may have carried early data, which went nowhere.
func (c *sessions) ended(s *session.Session, stats session.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, s)
	if stats.Opened {
		c.sent += stats.Sent
		c.received += stats.Received
	}
}

// sum is what a scrape sees.
type sum struct {
	attached, detached, sent, received, held uint64
}

func (c *sessions) sum() sum {
	c.mu.Lock()
	live := slices.Collect(maps.Keys(c.live))
	c.mu.Unlock()
	stats := make([]session.Stats, 0, len(live))
	for _, s := range live {
		stats = append(stats, s.Stats())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	total := sum{sent: c.sent, received: c.received}
	for i, s := range live {
		if _, still := c.live[s]; !still {
			continue // ended meanwhile, and is in the total
		}
		total.sent += stats[i].Sent
		total.received += stats[i].Received
		total.held += stats[i].Held
		if stats[i].Attached {
			total.attached++
		} else {
			total.detached++
		}
	}
	return total
}

// Describe is a Collector's.
func (c *sessions) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.now
	ch <- c.bytes
	ch <- c.held
}

// Collect is a Collector's.
func (c *sessions) Collect(ch chan<- prometheus.Metric) {
	s := c.sum()
	up, down := s.sent, s.received
	if c.role == RoleRelay { // what a relay sends goes to the client
		up, down = down, up
	}
	emit := func(d *prometheus.Desc, t prometheus.ValueType, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, float64(v), labels...)
	}
	emit(c.now, prometheus.GaugeValue, s.attached, attached)
	emit(c.now, prometheus.GaugeValue, s.detached, detached)
	emit(c.bytes, prometheus.CounterValue, up, toTarget)
	emit(c.bytes, prometheus.CounterValue, down, toClient)
	emit(c.held, prometheus.GaugeValue, s.held)
}
