package relay

import (
	"context"
	"time"

	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// keyShare is which part of the memory one key may have: a quarter.
	keyShare = 4
	// memoryTick is how often a relay looks whether it is over its limit.
	memoryTick = time.Second
	// sweepTick is how often it forgets what nobody can ask for any more. Identities
	// have no bound: an authority may name a new one with every certificate.
	sweepTick = time.Minute
	// minVictim is how many bytes of memory a session must hold for its end to be of
	// use.
	minVictim = 32 << 10
	// maxAutoMemory is the most that AutoMemory returns, in bytes.
	maxAutoMemory = 1 << 30
)

// AutoMemory is how much a relay's sessions may hold unless it is told: a quarter
// of what this computer, or its cgroup, has, and at most 1 GiB.
func AutoMemory() int64 {
	if have := systemMemory(); have > 0 {
		return min(have/4, maxAutoMemory)
	}
	return maxAutoMemory
}

// evict ends sessions until there is room in the account and in the relay: those
// that have been without a carrier for longest, of the key that holds most. It
// returns the limit for which there is none, or "".
func (t *table) evict(account *session.Memory) Limit {
	for {
		short, limit := account, LimitMemoryPerKey // whose sessions may go
		switch {
		case account != t.memory && account.Own() >= session.Full:
		case t.memory.Own() >= session.Full:
			short, limit = t.memory, LimitMemory
		default:
			return ""
		}
		h := t.victim(short)
		if h == nil {
			return limit
		}
		t.hit(limit)
		h.s.Reset(wire.CodeEvicted, "the relay needed its memory for others")
	}
}

// victim returns the session to end next, or nil: the end of one that holds next to
// nothing would help nobody.
func (t *table) victim(account *session.Memory) *held {
	t.mu.Lock()
	defer t.mu.Unlock()
	var victim *held
	var since time.Time
	for _, h := range t.live {
		at, ok := h.detachedSince()
		memory := t.owners[h.owner].memory
		if !ok || account != t.memory && account != memory || h.s.Stats().Memory < minVictim {
			continue
		}
		if victim != nil {
			switch best := t.owners[victim.owner].memory; {
			case memory.Used() < best.Used():
				continue
			case memory == best && !at.Before(since):
				continue
			}
		}
		victim, since = h, at
	}
	if victim != nil {
		victim.evicted()
	}
	return victim
}

// watchMemory evicts while sessions with a carrier hold more than there is, and
// sweeps.
func (r *Relay) watchMemory(ctx context.Context) {
	ticker := time.NewTicker(memoryTick)
	defer ticker.Stop()
	sweeper := time.NewTicker(sweepTick)
	defer sweeper.Stop()
	for {
		select {
		case <-ticker.C:
			r.held.evict(r.held.memory)
		case <-sweeper.C:
			r.held.sweep()
			r.tickets.sweep()
		case <-ctx.Done():
			return
		}
	}
}
