package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// youngGuest is how old a guest must be to make room for another, unless its
	// source takes more than its share. An honest handshake has ended by then, even
	// when thousands come at once.
	youngGuest = 2 * time.Second
	// fairShare is how many times as many guests as the newcomer's a source may have,
	// and keep its young ones.
	fairShare = 2
)

// lobby is where strangers wait until they are known: so many in all. When it is
// full, the oldest of the source that has most goes: whoever fills it from one
// place turns out his own.
type lobby struct {
	full func() // is told of every newcomer that finds it so

	mu      sync.Mutex // guards all below
	most    int
	n       int
	sources map[netip.Prefix]*source
}

// source is where some guests come from: an IPv4 address, or an IPv6 /64.
type source struct {
	prefix netip.Prefix
	guests []*stranger // the oldest first
}

// busier reports whether s has more guests, or as many and one that is older.
func (s *source) busier(other *source) bool {
	if n, most := len(s.guests), len(other.guests); n != most {
		return n > most
	}
	return s.guests[0].since.Before(other.guests[0].since)
}

// stranger is a connection in a lobby.
type stranger struct {
	conn   net.Conn
	from   netip.Prefix
	since  time.Time
	turned bool // out
}

func newLobby(most int, full func()) *lobby {
	return &lobby{most: most, full: full, sources: make(map[netip.Prefix]*source)}
}

// resize lets another number in from now on.
func (l *lobby) resize(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
}

// prefixOf is the source of a connection. Those without an address are one.
func prefixOf(c net.Conn) netip.Prefix {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	addr := a.Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // fits
	return p
}

// enter lets a connection in, and closes another for it when the lobby is full. It
// returns nil when there is nobody to turn out. Whoever got in leaves once.
func (l *lobby) enter(c net.Conn) *stranger {
	s := &stranger{conn: c, from: prefixOf(c), since: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= l.most {
		l.full()
		if !l.turnOut(s.from) {
			return nil
		}
	}
	l.n++
	src := l.sources[s.from]
	if src == nil {
		src = &source{prefix: s.from}
		l.sources[s.from] = src
	}
	src.guests = append(src.guests, s)
	return s
}

// turnOut makes room for one from the given source.
func (l *lobby) turnOut(from netip.Prefix) bool {
	own := 1 // with the newcomer
	busiest := l.sources[from]
	if busiest != nil {
		own += len(busiest.guests)
	}
	for _, src := range l.sources {
		if busiest == nil || src.busier(busiest) && (busiest.prefix != from || len(src.guests) > len(busiest.guests)) {
			busiest = src // of several that have most, not another's
		}
	}
	oldest := busiest.guests[0]
	if time.Since(oldest.since) < youngGuest && len(busiest.guests) <= fairShare*own {
		return false // else a storm would break off every handshake that it has begun
	}
	oldest.turned = true
	oldest.conn.Close()
	l.remove(oldest)
	return true
}

// leave lets s go, who may have been turned out.
func (l *lobby) leave(s *stranger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.turned {
		l.remove(s)
	}
}

// turnedOut reports whether s had to go.
func (l *lobby) turnedOut(s *stranger) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.turned
}

// remove takes s out. The caller holds mu.
func (l *lobby) remove(s *stranger) {
	src := l.sources[s.from]
	for i, g := range src.guests {
		if g == s {
			src.guests = append(src.guests[:i], src.guests[i+1:]...)
			break
		}
	}
	if l.n--; len(src.guests) == 0 {
		delete(l.sources, s.from)
	}
}
