package relay

import "github.com/sshka/sshka-proxy/proxy/link"

// Limit names a limit of a relay, as a label of sshka_limits_hit_total: by its key
// in the configuration, if it has one.
type Limit string

// The limits, and what happens when one is hit.
const (
	LimitHandshakes      Limit = "handshakes"         // a connection was turned out, or not let in
	LimitLinks           Limit = "links"              // a link was refused
	LimitLinksPerKey     Limit = "links_per_key"      // a link was refused
	LimitOpensPerSecond  Limit = "opens_per_second"   // a session was put off
	LimitDialsPerKey     Limit = "dials_per_key"      // a dial had to wait
	LimitSessionsPerLink Limit = "sessions_per_link"  // a session was refused
	LimitSessionsPerKey  Limit = "sessions_per_key"   // a session was refused
	LimitMemory          Limit = "memory"             // a session was refused, or another one evicted
	LimitMemoryPerKey    Limit = "memory_per_key"     // the same, for the key's share of the memory
	LimitTicketsPerKey   Limit = "tickets_per_key"    // a ticket was forgotten
	LimitTombstones      Limit = "tombstones_per_key" // an ended session was forgotten

	// LimitStreams is the link's, too: a carrier was closed that had not said what it
	// was for.
	LimitStreams = Limit(link.LimitStreams)
)

// AllLimits lists every Limit but those that are a link's alone, for labels that
// exist from the start.
var AllLimits = []Limit{
	LimitHandshakes, LimitLinks, LimitLinksPerKey, LimitOpensPerSecond, LimitDialsPerKey, LimitSessionsPerLink,
	LimitSessionsPerKey, LimitMemory, LimitMemoryPerKey, LimitTicketsPerKey, LimitTombstones,
}

// hit tells that a limit was hit.
func (r *Relay) hit(l Limit) {
	if r.trace.LimitHit != nil {
		r.trace.LimitHit(l)
	}
}

// Memory returns how many bytes all sessions hold now, and how many they may.
func (r *Relay) Memory() (used, limit int64) { return r.held.memory.Used(), r.held.memory.Limit() }
