package client

import (
	"net"
	"net/netip"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// uplink is one link to the relay.
type uplink struct {
	conn  *transport.Conn
	link  *link.Link
	since time.Time

	proven  chan struct{}    // a beat was answered; holds one
	doubted chan link.Reason // the peer may be lost; holds one
	wasUp   bool             // sessions could use it
}

// newUplink makes the next link of an authenticated connection.
func (k *keeper) newUplink(conn *transport.Conn) error {
	u := &uplink{
		conn: conn, since: time.Now(),
		proven: make(chan struct{}, 1), doubted: make(chan link.Reason, 1),
	}
	trace := k.c.cfg.Trace.Link
	trace.Lost = nil // the keeper tells: a link that never was in use is no loss
	trace.BeatAnswered = func(rtt time.Duration) {
		offer(u.proven, struct{}{})
		if f := k.c.cfg.Trace.Link.BeatAnswered; f != nil {
			f(rtt)
		}
	}
	trace.Suspected = func(r link.Reason) {
		offer(u.doubted, r)
		if f := k.c.cfg.Trace.Link.Suspected; f != nil {
			f(r)
		}
	}
	tuned := k.c.tuned.Load()
	var err error
	u.link, err = link.Client(conn.Conn, conn.Meter, link.Config{
		Heartbeat: tuned.Heartbeat, Window: link.WindowFor(tuned.Buffer), Trace: &trace,
		Receipts: conn.Peer.Features&wire.FeatureReceipts != 0,
	})
	if err != nil {
		conn.Close()
		return err
	}
	k.next = u
	k.links++
	k.tasks.Go(func() { k.listen(u) })
	k.tasks.Go(func() {
		err := u.link.Run(k.ctx)
		k.tell(func() { k.lost(u, err) })
	})
	return nil
}

// offer puts v into a channel of one that may be full.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

// listen hands on what u's Trace has seen, which must not wait for the keeper.
func (k *keeper) listen(u *uplink) {
	away := u.link.Away()
	proven := u.proven
	for {
		select {
		case <-proven:
			proven = nil // once is enough
			k.tell(func() { k.proven(u) })
		case r := <-u.doubted:
			k.tell(func() { k.doubted(u, r) })
		case <-away:
			away = nil
			k.tell(func() { k.away(u) })
		case <-u.link.Done():
			return
		}
	}
}

// stranded reports whether the address that u's connection comes from is gone:
// nothing will ever arrive there.
func (u *uplink) stranded(addrs func() ([]net.Addr, error)) bool {
	local, err := netip.ParseAddrPort(u.conn.LocalAddr().String())
	if err != nil {
		return false
	}
	all, err := addrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == local.Addr().Unmap().WithZone("") {
			return false
		}
	}
	return true
}
