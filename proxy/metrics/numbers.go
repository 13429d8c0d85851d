package metrics

// kind is a number's type, as the exposition format writes it.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// number is one exported number. docs/metrics.md holds the same.
type number struct {
	name string
	kind kind
	help string
	// role is where it exists. Empty: everywhere.
	role Role
	// label has these values, all from the start; the last is for whatever is none
	// of the others. Empty: no label.
	label  string
	values []string
	// buckets of a histogram, in its unit.
	buckets []float64
}

// The numbers. The constant label role is on all of them.
var (
	heartbeatsSent = &number{
		name: "sshka_heartbeats_sent_total", kind: counter,
		help: "Heartbeats sent by this end.",
	}
	heartbeatsMissed = &number{
		name: "sshka_heartbeats_missed_total", kind: counter,
		help: "Heartbeats of this end after which nothing at all was received within heartbeat.timeout.",
	}
	heartbeatRTT = &number{
		name: "sshka_heartbeat_rtt_seconds", kind: histogram,
		help:    "Time from a heartbeat to its answer.",
		buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	}
	heartbeatInterval = &number{
		name: "sshka_heartbeat_interval_seconds", kind: gauge,
		help: "The longest silence before this end sends a heartbeat; 0 is off. A proxy shows what its relay slowed it down to.",
	}
	linkUp = &number{
		name: "sshka_link_up", kind: gauge, role: RoleProxy,
		help: "1 while there is an authenticated link to the relay, else 0.",
	}
	links = &number{
		name: "sshka_links", kind: gauge,
		help: "Authenticated links now.",
	}
	linksLost = &number{
		name: "sshka_links_lost_total", kind: counter,
		help:  "Links that have ended.",
		label: "reason", values: linkReasons(),
	}
	linkDials = &number{
		name: "sshka_link_dials_total", kind: counter, role: RoleProxy,
		help:  "Attempts to reach the relay that have ended.",
		label: "result", values: dialResults,
	}
	linkCongestion = &number{
		name: "sshka_link_congestion_control_total", kind: counter,
		help:  "Links that were made, by the TCP congestion control that they got at this end. bbr is asked for.",
		label: "algorithm", values: congestionControls,
	}
	sessionsNow = &number{
		name: "sshka_sessions", kind: gauge,
		help:  "Open sessions now: attached to a link, or detached and waiting for one.",
		label: "state", values: []string{attached, detached},
	}
	sessionsOpened = &number{
		name: "sshka_sessions_opened_total", kind: counter,
		help:  "Sessions that were asked for.",
		label: "result", values: openResults,
	}
	sessionsResumed = &number{
		name: "sshka_sessions_resumed_total", kind: counter,
		help: "Times that an open session was carried on over another carrier.",
	}
	sessionResume = &number{
		name: "sshka_session_resume_seconds", kind: histogram,
		help:    "How long an open session's bytes did not flow, from the loss of its carrier until the next one.",
		buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 14400, 43200, 86400},
	}
	sessionsEnded = &number{
		name: "sshka_sessions_ended_total", kind: counter,
		help:  "Open sessions that have ended.",
		label: "reason", values: endReasons,
	}
	sessionReplayed = &number{
		name: "sshka_session_replayed_bytes_total", kind: counter,
		help: "Bytes of sessions that this end sent again after a resume.",
	}
	sessionBytes = &number{
		name: "sshka_session_bytes_total", kind: counter,
		help:  "Bytes that sessions carried, each counted once.",
		label: "direction", values: []string{toTarget, toClient},
	}
	replayBuffer = &number{
		name: "sshka_replay_buffer_bytes", kind: gauge,
		help: "Bytes that open sessions keep at this end until the other end has stored them.",
	}
	sessionMemory = &number{
		name: "sshka_session_memory_bytes", kind: gauge, role: RoleRelay,
		help: "Memory that all sessions of the relay take now, in buffers and beside them.",
	}
	sessionMemoryLimit = &number{
		name: "sshka_session_memory_limit_bytes", kind: gauge, role: RoleRelay,
		help: "Memory that they may take: relay.limits.memory.",
	}
	authFailures = &number{
		name: "sshka_auth_failures_total", kind: counter, role: RoleRelay,
		help:  "Connections to the relay that did not become a link, scanners and balancers among them.",
		label: "reason", values: authReasons(),
	}
	limitsHit = &number{
		name: "sshka_limits_hit_total", kind: counter, role: RoleRelay,
		help:  "Times that somebody has hit a limit of the relay.",
		label: "limit", values: limitValues(),
	}
	buildInfo = &number{
		name: "sshka_build_info", kind: gauge,
		help: "Always 1; the labels version and goversion tell what runs.",
	}
)

// The values of state and direction.
const (
	attached = "attached"
	detached = "detached"
	toTarget = "to_target"
	toClient = "to_client"
)

// numbers are all of them, in the order of docs/metrics.md.
var numbers = []*number{
	heartbeatsSent, heartbeatsMissed, heartbeatRTT, heartbeatInterval,
	linkUp, links, linksLost, linkDials, linkCongestion,
	sessionsNow, sessionsOpened, sessionsResumed, sessionResume, sessionsEnded, sessionReplayed, sessionBytes, replayBuffer,
	sessionMemory, sessionMemoryLimit,
	authFailures, limitsHit, buildInfo,
}
