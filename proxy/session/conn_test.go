package session

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestConnWhileCarriersTakeOver runs the conformance tests while the session moves
// to a new carrier again and again, up to the end: the next one is there before the
// last one is gone, or the last one is cut.
func TestConnWhileCarriersTakeOver(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		ctx, cancel := context.WithCancel(context.Background())
		a, b := pipe()
		e := open(ctx, t, Config{Buffer: MinBuffer}, a, b)
		var moving sync.WaitGroup
		moving.Go(func() { e.moveOn(ctx, a) })
		return e.proxy, e.relay, func() {
			e.proxy.Close()
			e.relay.Close()
			cancel()
			moving.Wait()
			e.wg.Wait()
		}, nil
	})
}

// moveOn attaches one carrier after the other, the last one being a.
func (e *ends) moveOn(ctx context.Context, a net.Conn) {
	var carriers sync.WaitGroup
	defer carriers.Wait()
	for ctx.Err() == nil {
		select { // a carrier lives for some frames only
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(200+rand.IntN(3000)) * time.Microsecond):
		}
		if rand.IntN(2) == 0 {
			a.Close()
		}
		var b net.Conn
		a, b = pipe()
		proxy := a
		carriers.Go(func() { e.proxy.Attach(ctx, proxy, wire.ID{}) })
		carriers.Go(func() {
			r, err := Receive(b)
			if err != nil {
				b.Close()
				return
			}
			e.relay.Answer(ctx, r, wire.Secret{1})
		})
	}
}
