package relay

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Limits bound what others may take from a relay. Zero fields mean the defaults.
type Limits struct {
	// Links is how many proxies may be linked at once (10000).
	Links int
	// Handshakes is how many connections may be in a handshake at once, and as
	// many more in a proof of their key (256).
	Handshakes int
	// HandshakeTimeout bounds TLS and HELLO together (10 s).
	HandshakeTimeout time.Duration
	// SessionsPerLink is how many sessions one link may carry at once (1024).
	SessionsPerLink int
	// SessionsPerKey is how many sessions one key may hold at once, those included
	// whose link is lost (1024).
	SessionsPerKey int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		value *int
		zero  int
	}{{&l.Links, 10000}, {&l.Handshakes, 256}, {&l.SessionsPerLink, 1024}, {&l.SessionsPerKey, 1024}} {
		if *f.value == 0 {
			*f.value = f.zero
		}
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
type gates struct{ links, handshakes, signatures gate }

func newGates(l Limits) gates {
	return gates{
		links:      make(gate, l.Links),
		handshakes: make(gate, l.Handshakes),
		signatures: make(gate, l.Handshakes),
	}
}
