package relay

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// shortWindow is how long a session is kept whose carrier ended while its link
// lived: its owner was killed.
const shortWindow = 60 * time.Second

// errExpired is why a session ended that nobody came back for.
var errExpired = errors.New("nobody came back for the session in time")

// held is a session that this relay holds, attached or not.
type held struct {
	owner   string          // the fingerprint of who it belongs to
	secret  wire.Secret     // its ticket's
	memory  *session.Memory // the key's account; set by add
	reached chan struct{}   // closed when the dial has ended
	s       *session.Session

	mu     sync.Mutex // guards all below
	turn   uint64     // the newest carrier's generation
	timer  *time.Timer
	since  time.Time // when the last one was lost; zero: there is one, or none yet
	ending bool      // it has been told to end, whoever comes back
	who    keyauth.Identity
	from   netip.Addr // where its last link comes from
}

// carriedBy notes who carries the session on, and from where: its owner, perhaps
// with another certificate.
func (h *held) carriedBy(who keyauth.Identity, from netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.who, h.from = who, from
}

// carrier is who carried the session last, and from where.
func (h *held) carrier() (who keyauth.Identity, from netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.who, h.from
}

// detachedSince is since when the session has had no carrier. ok is false when it
// has one, or was told to end.
func (h *held) detachedSince() (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, !h.since.IsZero() && !h.ending
}

// evicted tells that the session was told to end: it holds nothing any more.
func (h *held) evicted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = time.Time{}
}

// attached stops the clock of a detached session. A carrier that is not the newest
// changes nothing.
func (h *held) attached(generation uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if generation <= h.turn {
		return
	}
	h.turn = generation
	h.since = time.Time{}
	if h.timer != nil && !h.ending {
		h.timer.Stop()
	}
}

// detached starts it, unless a newer carrier has come.
func (h *held) detached(turn uint64, window time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if turn != h.turn {
		return
	}
	if window <= 0 || h.ending {
		h.s.Abandon(errExpired)
		return
	}
	h.since = time.Now()
	h.timer = time.AfterFunc(window, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if turn == h.turn {
			h.s.Abandon(errExpired)
		}
	})
}

// farewellTime is how long an attached session may take to tell that it has been
// ended here.
const farewellTime = farewell / 2

// shutDown ends the session with the relay.
func (h *held) shutDown() {
	h.end(wire.CodeShuttingDown, "the relay shuts down", errExpired)
}

// end resets the session. Where there is nobody to be told, err is why it is
// given up.
func (h *held) end(code wire.Code, message string, err error) {
	h.s.Reset(code, message)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(farewellTime, func() { h.s.Abandon(err) })
}
