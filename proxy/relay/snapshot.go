package relay

import (
	"errors"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/status"
)

// roster is who is linked now, and who left last.
type roster struct {
	mu    sync.Mutex // guards all below
	peers map[*peer]struct{}
	gone  time.Time // when the last link ended; zero: none has
	last  status.Lost
}

// enter makes p one of those that are linked.
func (r *roster) enter(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers == nil {
		r.peers = make(map[*peer]struct{})
	}
	r.peers[p] = struct{}{}
}

// leave takes the end of its link.
func (r *roster) leave(p *peer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, p)
	r.gone = time.Now()
	r.last = status.Lost{Address: p.conn.RemoteAddr().String(), Key: p.conn.Identity.Fingerprint}
	var lost *link.LostError
	if errors.As(err, &lost) {
		r.last.Reason = string(lost.Reason)
		err = lost.Err
	}
	if err != nil {
		r.last.Error = err.Error()
	}
}

// list returns those that are linked, and the link that ended last.
func (r *roster) list() (all []*peer, last *status.Lost) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.peers {
		all = append(all, p)
	}
	if !r.gone.IsZero() {
		l := r.last
		l.Ago = status.Seconds(time.Since(r.gone))
		last = &l
	}
	return all, last
}

// Snapshot tells which links there are and which sessions this relay holds. The
// process's own facts are for the caller to fill in.
func (r *Relay) Snapshot() *status.Snapshot {
	s := &status.Snapshot{Schema: status.Schema, Role: "relay", Running: true, Draining: r.draining.Load(), Time: time.Now()}
	var peers []*peer
	peers, s.LastLost = r.roster.list()
	for _, p := range peers {
		l := p.link.Snapshot()
		l.Address, l.Agent, l.Key = p.conn.RemoteAddr().String(), p.conn.Peer.Agent, p.conn.Identity.Fingerprint
		s.Links = append(s.Links, l)
	}
	for _, h := range r.held.open() {
		v := h.s.Snapshot()
		v.Key = h.who.Fingerprint
		s.Sessions = append(s.Sessions, v)
	}
	return s
}

// open returns the sessions whose targets were reached.
func (t *table) open() []*held {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*held, 0, len(t.live))
	for _, h := range t.live {
		select {
		case <-h.reached:
			if h.s != nil {
				all = append(all, h)
			}
		default: // is being dialled
		}
	}
	return all
}
