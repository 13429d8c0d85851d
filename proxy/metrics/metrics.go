package metrics

import (
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/relay"
)

// Role is which of the two programs counts: the constant label of every number.
type Role string

// The roles.
const (
	RoleProxy Role = "proxy"
	RoleRelay Role = "relay"
)

// scrapes is how many scrapes are answered at once; a further one is told to
// come back (503).
const scrapes = 4

// Config is what is known from the start.
type Config struct {
	// Role is the program's. Required.
	Role Role
	// Version is the program's.
	Version string
	// Heartbeat is the one of the client's or the relay's Config.
	Heartbeat heartbeat.Policy
}

// Metrics are the numbers of one proxy or one relay. Each has a registry of its
// own, so that a proxy and a relay in one process do not mix. It is safe for
// concurrent use.
type Metrics struct {
	role     Role
	interval atomic.Int64 // as configured, in nanoseconds
	registry *prometheus.Registry

	beats, missed, resumed, replayed prometheus.Counter
	rtt, resume                      prometheus.Histogram
	intervalNow                      prometheus.Gauge
	lost, dials, opened, ended       values
	auth, limits, congestion         values
	sessions                         *sessions
	links                            atomic.Int64
	memory                           atomic.Pointer[memory]
}

// values are the counters of a number with a label. They do not change.
type values struct {
	by    map[string]prometheus.Counter
	other prometheus.Counter
}

// count counts one.
func (v values) count(value string) {
	c, ok := v.by[value]
	if !ok {
		c = v.other
	}
	c.Inc()
}

// New returns the numbers of a program, all at zero.
func New(cfg Config) *Metrics {
	m := &Metrics{
		role:     cfg.Role,
		registry: prometheus.NewRegistry(),
	}
	m.interval.Store(int64(configured(cfg.Role, cfg.Heartbeat)))
	m.beats, m.missed = m.counter(heartbeatsSent), m.counter(heartbeatsMissed)
	m.resumed, m.replayed = m.counter(sessionsResumed), m.counter(sessionReplayed)
	m.rtt, m.resume = m.histogram(heartbeatRTT), m.histogram(sessionResume)
	m.intervalNow = prometheus.NewGauge(m.gaugeOpts(heartbeatInterval, nil))
	m.export(heartbeatInterval, m.intervalNow)
	m.resetInterval()
	m.gaugeFunc(links, nil, func() float64 { return float64(m.links.Load()) })
	m.gaugeFunc(linkUp, nil, func() float64 { return float64(min(1, m.links.Load())) })
	m.gaugeFunc(buildInfo, prometheus.Labels{"version": cfg.Version, "goversion": runtime.Version()}, func() float64 { return 1 })
	m.lost, m.dials, m.auth = m.values(linksLost), m.values(linkDials), m.values(authFailures)
	m.opened, m.ended = m.values(sessionsOpened), m.values(sessionsEnded)
	m.limits, m.congestion = m.values(limitsHit), m.values(linkCongestion)
	m.memory.Store(&memory{func() (used, limit int64) { return 0, 0 }})
	m.gaugeFunc(sessionMemory, nil, func() float64 { used, _ := m.memory.Load().ask(); return float64(used) })
	m.gaugeFunc(sessionMemoryLimit, nil, func() float64 { _, limit := m.memory.Load().ask(); return float64(limit) })
	m.sessions = newSessions(m)
	m.registry.MustRegister(
		m.sessions,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// memory knows what the sessions of a relay take and may take, in bytes.
type memory struct{ ask func() (used, limit int64) }

// Memory lets m ask a relay at every scrape, by its method Memory. Until then both
// numbers are 0.
func (m *Metrics) Memory(ask func() (used, limit int64)) { m.memory.Store(&memory{ask}) }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes})
}

// SetHeartbeat takes another Config.Heartbeat. A proxy beats by it from its next
// link on.
func (m *Metrics) SetHeartbeat(p heartbeat.Policy) {
	m.interval.Store(int64(configured(m.role, p)))
	if m.role == RoleRelay || m.links.Load() == 0 {
		m.resetInterval()
	}
}

// resetInterval shows the interval of a link that was not slowed down.
func (m *Metrics) resetInterval() { m.intervalNow.Set(time.Duration(m.interval.Load()).Seconds()) }

// configured is the interval that is in force where nothing was slowed down.
func configured(role Role, p heartbeat.Policy) time.Duration {
	if role == RoleRelay && p.Interval == 0 {
		p.Interval = relay.RelayPolicy.Interval
	}
	return max(0, p.WithDefaults().Interval)
}

// labels are the constant ones.
func (m *Metrics) labels(more prometheus.Labels) prometheus.Labels {
	all := prometheus.Labels{"role": string(m.role)}
	for name, value := range more {
		all[name] = value
	}
	return all
}

// export registers c if its number exists in this role.
func (m *Metrics) export(n *number, c prometheus.Collector) {
	if n.role == "" || n.role == m.role {
		m.registry.MustRegister(c)
	}
}

func (m *Metrics) counter(n *number) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: n.name, Help: n.help, ConstLabels: m.labels(nil)})
	m.export(n, c)
	return c
}

func (m *Metrics) gaugeOpts(n *number, more prometheus.Labels) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Name: n.name, Help: n.help, ConstLabels: m.labels(more)}
}

func (m *Metrics) gaugeFunc(n *number, more prometheus.Labels, f func() float64) {
	m.export(n, prometheus.NewGaugeFunc(m.gaugeOpts(n, more), f))
}

func (m *Metrics) histogram(n *number) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: n.name, Help: n.help, ConstLabels: m.labels(nil), Buckets: n.buckets})
	m.export(n, h)
	return h
}

func (m *Metrics) values(n *number) values {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: n.name, Help: n.help, ConstLabels: m.labels(nil)}, []string{n.label})
	m.export(n, vec)
	all := values{by: make(map[string]prometheus.Counter, len(n.values))}
	for _, v := range n.values {
		all.other = vec.WithLabelValues(v)
		all.by[v] = all.other
	}
	return all
}
