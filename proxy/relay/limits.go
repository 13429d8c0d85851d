package relay

import (
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Limits bound what others may take from a relay. Zero fields mean the defaults.
type Limits struct {
	// Links is how many proxies may be linked at once (10000).
	Links int
	// Handshakes is how many connections may be in a handshake at once, and as
	// many more in a proof of their key (256). One more makes the oldest of the
	// busiest source go.
	Handshakes int
	// HandshakeTimeout bounds TLS and HELLO together (10 s).
	HandshakeTimeout time.Duration
	// LinksPerKey is how many links one key may have at once (1024).
	LinksPerKey int
	// SessionsPerLink is how many sessions one link may carry at once (1024).
	SessionsPerLink int
	// SessionsPerKey is how many sessions one key may hold at once, those included
	// whose link is lost (1024).
	SessionsPerKey int
	// Memory is how many bytes all sessions may hold, one key a quarter of them
	// (AutoMemory).
	Memory int64
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value *int
		zero  int
	}{{&l.Links, 10000}, {&l.Handshakes, 256}, {&l.LinksPerKey, 1024}, {&l.SessionsPerLink, 1024}, {&l.SessionsPerKey, 1024}} {
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	if l.Memory == 0 {
		l.Memory = AutoMemory()
	}
	if l.HandshakeTimeout == 0 {
		l.HandshakeTimeout = transport.DefaultHandshakeTimeout
	}
	return l
}

// gate lets a bounded number in.
type gate chan struct{}

// enter reports whether there is room; whoever got in leaves once.
func (g gate) enter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// gates are a relay's.
type gates struct {
	links                  gate
	handshakes, signatures *lobby
	keys                   *share // of links
}

func newGates(l Limits) gates {
	return gates{
		links:      make(gate, l.Links),
		handshakes: newLobby(l.Handshakes),
		signatures: newLobby(l.Handshakes),
		keys:       newShare(l.LinksPerKey),
	}
}

// share lets a bounded number of each key in.
type share struct {
	most int

	mu sync.Mutex // guards in
	in map[string]int
}

func newShare(most int) *share { return &share{most: most, in: make(map[string]int)} }

// enter reports whether there is room for one more of key; who got in leaves once.
func (s *share) enter(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in[key] >= s.most {
		return false
	}
	s.in[key]++
	return true
}

func (s *share) leave(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in[key]--; s.in[key] == 0 {
		delete(s.in, key)
	}
}
