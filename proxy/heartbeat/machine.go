package heartbeat

import "time"

// A Machine judges one link. It is not safe for concurrent use; its owner is
// the link. All times are durations since the link began.
type Machine struct {
	policy Policy
	random func() float64 // [0, 1)

	sent, received time.Duration // when bytes last moved, as last observed
	shorten        float64       // this interval's jitter, 0…jitter

	seq     uint64        // the last beat's
	beatAt  time.Duration // when it was sent
	waiting bool          // nothing was received since
	doubt   time.Duration // when that becomes suspicious, before it is a miss; 0: never
	acked   bool          // its BEAT_ACK has arrived
	row     int           // misses in a row
	now     time.Duration // of the last Advance
	lost    bool
}

// New returns a machine for a link that begins now, at time zero, with bytes
// just moved both ways (a handshake). random yields the jitter, uniform in
// [0, 1); math/rand/v2.Float64 is one.
func New(p Policy, random func() float64) *Machine {
	m := &Machine{policy: p.WithDefaults(), random: random}
	m.shorten = jitter * random()
	return m
}

// Decision is what Advance wants done.
type Decision struct {
	// Beat: send a BEAT with this Seq, now.
	Beat bool
	Seq  uint64
	// Missed: a beat went unanswered; Row counts them without a byte between.
	Missed bool
	Row    int
	// Suspect: the peer may be lost, and it is time to look for another way: a
	// beat was missed, or a Probe was not answered in its time.
	Suspect bool
	// Lost: the peer is lost. No later decision follows.
	Lost bool
}

// Observe tells when bytes were last sent and received. It may be called at any
// time and must be called before Advance; older times than known are ignored.
// Received means read from the socket, below TLS: a 16 KiB record takes two
// seconds on a slow line.
func (m *Machine) Observe(sent, received time.Duration) {
	m.sent = max(m.sent, sent)
	m.received = max(m.received, received)
	if m.received > m.beatAt {
		m.waiting = false
		m.row = 0
	}
}

// Ack tells that a BEAT_ACK arrived and returns the round-trip time. ok is false
// for an answer to anything but the last beat, and for a second answer.
func (m *Machine) Ack(seq uint64, now time.Duration) (rtt time.Duration, ok bool) {
	if m.seq == 0 || seq != m.seq || m.acked {
		return 0, false
	}
	m.acked = true
	m.waiting = false
	m.row = 0
	m.received = max(m.received, now)
	return now - m.beatAt, true
}

// SlowDown obeys a peer's SLOW_DOWN: no beat follows another within least, and
// no sooner than twice the interval so far.
func (m *Machine) SlowDown(least time.Duration) {
	const most = time.Hour // an evil peer must not turn our beats off
	least = min(least, most)
	unjittered := time.Duration(float64(least)/(1-jitter)) + 1
	if m.policy.Interval > 0 {
		m.policy.Interval = min(max(2*m.policy.Interval, unjittered), max(most, m.policy.Interval))
	}
	m.policy.Timeout = min(max(m.policy.Timeout, least), max(most, m.policy.Timeout))
}

// Interval is the interval now in force, zero when beats are off.
func (m *Machine) Interval() time.Duration { return max(0, m.policy.Interval) }

// Next is when Advance must be called next. ok is false when never: beats are
// off or the peer is lost.
func (m *Machine) Next() (at time.Duration, ok bool) {
	switch {
	case m.lost, m.off() && !m.waiting:
		return 0, false
	case !m.waiting:
		return m.due(), true
	}
	deadline := m.beatAt + m.policy.Timeout
	if m.doubt != 0 {
		deadline = min(deadline, m.doubt)
	}
	if m.off() {
		return deadline, true
	}
	// Bytes received meanwhile are not known yet: they may make another beat
	// due before this one's deadline.
	if due := m.beatAt + m.interval(); due < deadline && due > m.now {
		return due, true
	}
	return deadline, true
}

// off reports whether the policy has no beats.
func (m *Machine) off() bool { return m.policy.Interval < 0 }

// Advance tells that it is now and returns what to do.
func (m *Machine) Advance(now time.Duration) Decision {
	m.now = now
	if m.lost {
		return Decision{}
	}
	if !m.waiting {
		if m.off() || now < m.due() {
			return Decision{}
		}
		return m.beat(Decision{})
	}
	var d Decision
	if m.doubt != 0 && now >= m.doubt {
		m.doubt, d.Suspect = 0, true
	}
	if now < m.beatAt+m.policy.Timeout {
		return d
	}
	if m.off() { // it was a probe, and nobody counts
		m.waiting = false
		return d
	}
	m.row++
	d.Missed, d.Row = true, m.row
	d.Suspect = true
	if m.policy.CountMax > 0 && m.row >= m.policy.CountMax {
		m.lost, d.Lost = true, true
		return d
	}
	return m.beat(d)
}

// Probe is for an owner who wants to know now whether the peer lives: the
// computer has woken up, or its network has changed. It wants a beat at once,
// unless one is outstanding, and Advance will say Suspect when nothing is
// received within the given time. When that beat is missed, and the peer lost,
// remains the policy's. A Probe works with beats off, too.
func (m *Machine) Probe(now, within time.Duration) Decision {
	m.now = now
	if m.lost {
		return Decision{}
	}
	var d Decision
	if !m.waiting {
		d = m.beat(d)
	}
	m.doubt = now + max(within, 1)
	return d
}

// beat counts a beat as sent: handed to the link's writer, even one that is
// blocked.
func (m *Machine) beat(d Decision) Decision {
	m.seq++
	m.beatAt, m.waiting, m.acked = m.now, true, false
	m.doubt = 0
	m.sent = max(m.sent, m.now)
	m.shorten = jitter * m.random()
	d.Beat, d.Seq = true, m.seq
	return d
}

// due is when a beat is due if no byte moves: a NAT is refreshed by what is
// sent, the peer proven alive by what is received.
func (m *Machine) due() time.Duration { return min(m.sent, m.received) + m.interval() }

func (m *Machine) interval() time.Duration {
	return m.policy.Interval - time.Duration(m.shorten*float64(m.policy.Interval))
}
