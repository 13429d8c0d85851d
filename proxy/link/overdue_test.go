package link

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// telling is a connection whose kernel knows how many bytes are on the line.
type telling struct {
	net.Conn
	onLine atomic.Int64
	hole   atomic.Bool
	asked  atomic.Int64
}

func (c *telling) OnLine() (n int, hole bool) {
	c.asked.Add(1)
	return int(c.onLine.Load()), c.hole.Load()
}

// TestBulkLeavesInPlaceOfWhatHasArrived, as the kernel knows, though no RECEIPT tells of
// it; for as much again as may be on its way, and no more.
func TestBulkLeavesInPlaceOfWhatHasArrived(t *testing.T) {
	const limit = 64 << 10
	simnet.Bubble(t, func(t *testing.T) {
		near, peer := simnet.Pipe(simnet.Line{Buffer: 1 << 20})
		conn := &telling{Conn: near}
		m := NewMeter(conn)
		cfg := quiet
		cfg.Receipts = true
		l, err := Server(m, m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		o := &lone{Link: l, peer: peer}
		o.runs.Go(func() { _ = l.Run(t.Context()) })
		defer o.close()
		o.says(controlStream, muxSignal(muxSYN, 3), muxFrame(muxTypeWindow, 0, 3, 1<<20, ""))
		c := o.accept1(t)
		o.mu.Lock()
		o.governor.limit = limit
		o.mu.Unlock()
		flight := func() int {
			time.Sleep(time.Second)
			synctest.Wait()
			o.mu.Lock()
			defer o.mu.Unlock()
			return int(o.governor.sent - o.governor.arrived)
		}

		// All that may be on its way leaves, and nothing waits: nobody is asked.
		conn.onLine.Store(limit)
		if _, err := c.Write(make([]byte, limit-200)); err != nil {
			t.Fatal(err)
		}
		if n := flight(); n < limit || conn.asked.Load() > 0 {
			t.Fatalf("%d bytes have left of %d, the kernel was asked %d times", n, limit, conn.asked.Load())
		}
		// More comes, and waits for what is on the line.
		go c.Write(make([]byte, 4*limit))
		before := flight()
		if before > limit+limit/flightChunks || conn.asked.Load() == 0 {
			t.Fatalf("%d bytes are on their way, at most %d may be; the kernel was asked %d times", before, limit, conn.asked.Load())
		}
		// A packet is lost, and half of what comes after it is there.
		conn.hole.Store(true)
		conn.onLine.Store(limit / 2)
		if n := flight(); n < before+limit/2 || n > 2*limit+2*limit/flightChunks {
			t.Errorf("%d bytes are on their way, of which the peer has all but %d; before %d were", n, limit/2, before)
		}
		// However much the kernel says.
		conn.onLine.Store(0)
		if n := flight(); n > 2*limit+2*limit/flightChunks {
			t.Errorf("%d bytes have left with no receipt", n)
		}
		asked := conn.asked.Load()
		o.close()
		time.Sleep(time.Minute)
		if n := conn.asked.Load(); n > asked {
			t.Errorf("the kernel was asked %d times after the end", n-asked)
		}
	})
}
