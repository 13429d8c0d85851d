package session

import "sync/atomic"

// Memory is an account of what sessions hold: bytes to be sent again, and bytes
// that their applications have not read. Accounts may have a parent, which counts
// all of them together. A nil *Memory counts nothing and never presses. It is safe
// for concurrent use.
type Memory struct {
	limit  atomic.Int64
	parent *Memory
	used   atomic.Int64

	granted atomic.Int64 // to windows that have grown
}

// NewMemory returns an account with a limit in bytes, which it presses for and
// does not enforce: bytes that somebody may need are never dropped.
func NewMemory(limit int64, parent *Memory) *Memory {
	m := &Memory{parent: parent}
	m.limit.Store(limit)
	return m
}

// sessionCost is what a session takes beside its buffers, in bytes, about.
const sessionCost = 8 << 10

// Used returns the bytes held now.
func (m *Memory) Used() int64 { return m.used.Load() }

// Limit returns the limit.
func (m *Memory) Limit() int64 { return m.limit.Load() }

// SetLimit changes the limit. What is held stays, even above it.
func (m *Memory) SetLimit(limit int64) { m.limit.Store(limit) }

// grantShare is which part of the limit may be promised beyond what every session
// begins with: a promise is kept, even when all its readers stop at once.
const grantShare = 4

// grant takes n bytes for a window that wants to grow, or reports that there are
// none left.
func (m *Memory) grant(n int) bool {
	for a := m; a != nil; a = a.parent {
		if a.granted.Add(int64(n)) > a.Limit()/grantShare {
			for b := m; ; b = b.parent {
				b.granted.Add(int64(-n))
				if b == a {
					return false
				}
			}
		}
	}
	return true
}

// giveBack returns what was granted.
func (m *Memory) giveBack(n int) {
	for ; m != nil; m = m.parent {
		m.granted.Add(int64(-n))
	}
}

// add takes or gives back n bytes.
func (m *Memory) add(n int) {
	for ; m != nil; m = m.parent {
		m.used.Add(int64(n))
	}
}

// Pressure is how short an account, or one above it, is of memory. Each degree
// includes those before.
type Pressure int

// The degrees.
const (
	// Calm: everybody may grow.
	Calm Pressure = iota
	// Tight (half of the limit): sessions without a carrier do not grow.
	Tight
	// High (three quarters): windows do not rise, and nobody has more than
	// MinBuffer of new bytes: what is left is for sessions to come.
	High
	// Full (fifteen sixteenths): no session should be opened before another has
	// gone.
	Full
)

// Pressure returns the highest degree of m and the accounts above it.
func (m *Memory) Pressure() Pressure {
	p := Calm
	for ; m != nil; m = m.parent {
		p = max(p, m.Own())
	}
	return p
}

// Own returns the degree of m alone.
func (m *Memory) Own() Pressure {
	switch used, limit := m.used.Load(), m.Limit(); {
	case used >= limit-limit/16:
		return Full
	case used >= limit-limit/4:
		return High
	case used >= limit/2:
		return Tight
	}
	return Calm
}
