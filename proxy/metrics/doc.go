// Package metrics exports what a proxy or a relay counts, for Prometheus.
//
//	m := metrics.New(metrics.Config{Role: metrics.RoleRelay, Version: proxy.Version, Heartbeat: cfg.Heartbeat})
//	cfg.Trace = m.Relay(cfg.Trace)       // fills the numbers, then calls what was there
//	r, err := relay.New(cfg)
//	m.Memory(r.Memory)                   // asked when somebody scrapes
//	http.Handle("/metrics", m.Handler())
//
// numbers.go names every number once; docs/metrics.md is compared with it by a
// test. Numbers of events are filled from Traces, which no event on the path of
// the data calls. Numbers of sessions (how many, how many bytes) are asked of the
// living sessions when somebody scrapes, and kept when one ends: so a copy that
// takes an hour is seen to move, and costs nothing.
//
// No label holds a name, an address, a user or a key, and every value that a
// label can have is there from the start, at zero. The package is the only
// importer of Prometheus.
package metrics
