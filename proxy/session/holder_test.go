package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// holder is the model's relay: what package relay does with carriers, for one
// session at a time and without policy or limits (relay/admit.go, relay/held.go).
type holder struct {
	m *model

	mu       sync.Mutex // guards all below
	r        *rand.Rand
	instance wire.ID
	live     map[wire.ID]*keep
	dead     map[wire.ID]*Session // tombstones
	dials    int
}

// keep is a session that is held.
type keep struct {
	reached chan struct{} // closed when the dial has ended
	s       *Session      // nil: the target was not reached

	mu    sync.Mutex // guards all below
	turn  uint64     // the newest carrier's generation
	timer *time.Timer
}

const (
	heldFor     = 24 * time.Hour   // a detached session
	heldShortly = 60 * time.Second // one whose carrier was closed, not lost
)

var (
	errExpired = errors.New("nobody came back")
	errGone    = errors.New("the relay was restarted")
)

// accept takes a carrier.
func (h *holder) accept(l *line) {
	t := time.AfterFunc(10*time.Second, func() { l.relay.Close() })
	req, err := Receive(l.relay)
	t.Stop()
	if err != nil {
		l.relay.Close()
		h.m.judge("relay's end", err)
		return
	}
	if req.Resume != nil {
		h.resume(l, req)
		return
	}
	h.mu.Lock()
	if l.process != h.instance { // a process takes its carriers along
		h.mu.Unlock()
		req.Drop()
		return
	}
	known := h.live[req.Open.ID]
	if known != nil {
		h.mu.Unlock()
		h.repeat(l, req, known)
		return
	}
	if h.dead[req.Open.ID] != nil { // it came late
		h.mu.Unlock()
		req.Refuse(wire.CodeExpired, "ended")
		return
	}
	k := &keep{reached: make(chan struct{})}
	h.live[req.Open.ID] = k
	h.dials++
	took := somewhile(h.r, h.m.dialTime)
	h.mu.Unlock()

	reached := h.dial(l, req, took)
	h.mu.Lock()
	if !reached || h.live[req.Open.ID] != k { // or a restart has forgotten it
		delete(h.live, req.Open.ID)
		h.mu.Unlock()
		close(k.reached)
		req.Refuse(wire.CodeRefused, "refused")
		return
	}
	k.s = Accept(Config{}, req.Open)
	k.s.m.buffer = h.m.relayApp.buffer
	close(k.reached)
	h.mu.Unlock()
	h.m.accepted(k.s)
	h.m.wg.Go(func() { h.bury(k.s) })
	h.attach(l, req, k)
}

// dial takes a while, unless the proxy gives up.
func (h *holder) dial(l *line, req *Request, took time.Duration) bool {
	ctx, cancel := context.WithCancel(h.m.life)
	defer cancel()
	req.Watch(func() {
		if !l.isCut() && (h.m.proxyApp.gaveUp() || !l.hungUp()) { // else it was overtaken, its link being lost
			cancel()
		}
	})
	select {
	case <-ctx.Done():
		return false
	case <-time.After(took):
		return !h.m.unreachable
	}
}

// repeat answers an OPEN that came before.
func (h *holder) repeat(l *line, req *Request, k *keep) {
	<-k.reached
	if k.s == nil {
		req.Refuse(wire.CodeFailed, "the target was not reached")
		return
	}
	h.attach(l, req, k)
}

// resume answers a RESUME.
func (h *holder) resume(l *line, req *Request) {
	h.mu.Lock()
	k, instance := h.live[req.Resume.ID], h.instance
	buried := h.dead[req.Resume.ID]
	h.mu.Unlock()
	switch {
	case req.Resume.Instance != instance, k == nil && buried == nil:
		req.Refuse(wire.CodeUnknown, "unknown")
	case buried != nil && errors.Is(buried.Err(), errExpired):
		req.Refuse(wire.CodeExpired, "expired")
	case buried != nil:
		req.Bury(buried.Final())
	default:
		h.attach(l, req, k)
	}
}

// attach carries the session over the carrier and, when that is lost, keeps it.
func (h *holder) attach(l *line, req *Request, k *keep) {
	var generation uint64
	if req.Open != nil {
		generation = req.Open.Generation
	} else {
		generation = req.Resume.Generation
	}
	k.mu.Lock()
	if generation > k.turn {
		k.turn = generation
		if k.timer != nil {
			k.timer.Stop()
		}
	}
	k.mu.Unlock()

	k.s.mu.Lock()
	stale := generation <= k.s.generation
	k.s.mu.Unlock()
	err := k.s.Answer(context.Background(), req, wire.Secret{1})
	h.m.judge("relay's end", err)
	if stale && (err != nil && !errors.Is(err, ErrMoved) || l.answered()) {
		h.m.fail("an older generation, %d, was answered: %v", generation, err)
	}
	if err == nil || errors.Is(err, ErrMoved) {
		return
	}
	window := heldFor
	if !l.isCut() && h.m.proxyApp.gaveUp() {
		window = heldShortly
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.turn == generation {
		k.timer = time.AfterFunc(window, func() { k.s.Abandon(errExpired) })
	}
}

// bury keeps a tombstone of a session that has ended.
func (h *holder) bury(s *Session) {
	<-s.Done()
	h.m.mu.Lock()
	h.m.buried = time.Now()
	h.m.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live[s.ID()] == nil {
		return // a restart has forgotten it
	}
	delete(h.live, s.ID())
	h.dead[s.ID()] = s
}

// restart is another process in the relay's place: it knows nothing.
func (h *holder) restart() {
	h.mu.Lock()
	live := h.live
	h.instance[0]++
	h.live, h.dead = map[wire.ID]*keep{}, map[wire.ID]*Session{}
	h.mu.Unlock()
	for _, k := range live {
		select {
		case <-k.reached:
			if k.s != nil {
				k.s.Abandon(errGone)
			}
		default: // still dialling, in vain
		}
	}
}

// process names the relay's process.
func (h *holder) process() wire.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.instance
}
