package heartbeat

import (
	"errors"
	"time"
)

// What the protocol fixes and what we chose, in one place.
const (
	// DefaultInterval is the interval of a zero Policy.
	DefaultInterval = 20 * time.Second
	// DefaultTimeout is the timeout of a zero Policy.
	DefaultTimeout = 5 * time.Second
	// DefaultCountMax is the count of a zero Policy.
	DefaultCountMax = 3
	// MinInterval is the shortest interval and the shortest timeout that a
	// Policy may ask for.
	MinInterval = 100 * time.Millisecond
	// Off as Interval turns beats off; as CountMax it never loses a peer.
	Off = -1

	// jitter shortens each interval by up to this share, so that ten thousand
	// links which began together do not beat together.
	jitter = 0.1
)

// Policy says how a link is kept warm. The zero Policy is the default one.
type Policy struct {
	// Interval is the longest silence allowed in either direction before a beat
	// is sent. Zero means DefaultInterval, negative (Off) turns beats off. It
	// must be shorter than the idle timer of every NAT on the path
	// (docs/operations.md lists them).
	Interval time.Duration
	// Timeout is how long a beat waits for any byte from the peer before it
	// counts as missed. Zero means DefaultTimeout.
	Timeout time.Duration
	// CountMax is how many misses in a row lose the peer. Zero means
	// DefaultCountMax, negative (Off) means never: then only TCP's own errors
	// end the link.
	CountMax int
}

// WithDefaults returns p with its zero fields filled.
func (p Policy) WithDefaults() Policy {
	if p.Interval == 0 {
		p.Interval = DefaultInterval
	}
	if p.Timeout == 0 {
		p.Timeout = DefaultTimeout
	}
	if p.CountMax == 0 {
		p.CountMax = DefaultCountMax
	}
	return p
}

// Validate reports what in p no link can keep.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	switch {
	case p.Interval > 0 && p.Interval < MinInterval:
		return errors.New("heartbeat interval below 100ms")
	case p.Timeout < MinInterval:
		return errors.New("heartbeat timeout below 100ms")
	}
	return nil
}

// DeathTime is how long after the first unanswered beat a silent peer is lost.
// Zero means never.
func (p Policy) DeathTime() time.Duration {
	p = p.WithDefaults()
	if p.Interval < 0 || p.CountMax < 0 {
		return 0
	}
	return time.Duration(p.CountMax) * p.Timeout
}
