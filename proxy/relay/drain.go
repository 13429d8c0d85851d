package relay

import (
	"context"
	"errors"
	"time"

	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// drainTick is how often a relay that drains counts what is left.
const drainTick = 200 * time.Millisecond

// drainingText is what proxies are told that want something new.
const drainingText = "the relay shuts down and takes no new sessions"

// errDraining is why a relay is not ready.
var errDraining = errors.New("the relay is draining: it takes no new sessions")

// Ready is nil while the relay accepts links and sessions, else it says why not.
func (r *Relay) Ready() error {
	if r.draining.Load() {
		return errDraining
	}
	r.doors.mu.Lock()
	defer r.doors.mu.Unlock()
	if r.doors.ctx == nil || r.doors.ctx.Err() != nil {
		return errNotServing
	}
	return nil
}

// Drain lets the relay run dry: from now on, and for good, it takes no new
// sessions, and no links but of those who have sessions here. All links are told
// GOAWAY; sessions go on, and are resumed. It returns how many are left, those
// without a link included: none, unless ctx was done before. left is told how many
// there are, at first and whenever that has changed. Serve runs on.
func (r *Relay) Drain(ctx context.Context, left func(sessions int)) int {
	r.draining.Store(true)
	for _, p := range r.links.all() {
		p.link.GoAway(comeBack, "draining")
	}
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for last := -1; ; {
		n := r.held.size()
		if n != last {
			last = n
			left(n)
		}
		if n == 0 {
			return 0
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return r.held.size()
		}
	}
}

// openDraining answers an OPEN while the relay drains. One that came before, and
// whose answer was lost, is repeated as ever.
func (p *peer) openDraining(ctx context.Context, req *session.Request, owner string) {
	switch known, dead := p.r.held.find(req.Open.ID); {
	case known != nil:
		p.repeat(ctx, req, known, owner)
	case dead != nil:
		p.repeatDead(req, dead, owner)
	default:
		p.refuseOpen(req, wire.CodeShuttingDown, drainingText)
	}
}
