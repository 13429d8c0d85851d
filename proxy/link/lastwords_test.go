package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// lateReader is a connection whose reads wait, and whose writes fail, from some time
// on, as those of a connection do that the peer has closed.
type lateReader struct {
	net.Conn

	broken atomic.Bool
	wrote  chan struct{} // closed by the first write that fails
	once   sync.Once
}

func (c *lateReader) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() {
		<-c.wrote
	}
	return n, err
}

func (c *lateReader) Write(p []byte) (int, error) {
	if c.broken.Load() {
		c.once.Do(func() { close(c.wrote) })
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// TestAFailedWriteDoesNotCutTheLastWords: the relay says that it shuts down and closes;
// a proxy that writes just then still reads why.
func TestAFailedWriteDoesNotCutTheLastWords(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := &pair{}
		p.a, p.b = simnet.Pipe(simnet.Line{})
		late := &lateReader{Conn: p.a, wrote: make(chan struct{})}
		ma, mb := NewMeter(late), NewMeter(p.b)
		var err error
		if p.proxy, err = Client(ma, ma, quiet); err != nil {
			t.Fatal(err)
		}
		if p.relay, err = Server(mb, mb, quiet); err != nil {
			t.Fatal(err)
		}
		relayCtx, stopRelay := context.WithCancel(t.Context())
		p.wg.Go(func() { p.proxyErr = p.proxy.Run(t.Context()) })
		p.wg.Go(func() { p.relErr = p.relay.Run(relayCtx) })
		a, _ := p.carriers(t)
		synctest.Wait()
		late.broken.Store(true)
		stopRelay()
		synctest.Wait() // GOAWAY is there, and nobody has read it
		_, _ = a.Write([]byte("too late"))
		p.wg.Wait()
		var lost *LostError
		if !errors.As(p.proxyErr, &lost) || lost.Reason != Shutdown {
			t.Errorf("lost: %v", p.proxyErr)
		}
	})
}

// TestWhatIsOnItsWayDoesNotCutTheLastWords: a proxy that goes on sending while the relay
// ends reads why.
func TestWhatIsOnItsWayDoesNotCutTheLastWords(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{Rate: 1 << 20, Delay: 10 * time.Millisecond}, quiet, quiet)
		a, _ := p.carriers(t)
		p.wg.Go(func() {
			for {
				if _, err := a.Write([]byte("on its way")); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		time.Sleep(time.Second)
		start := time.Now()
		p.stopRelay()
		p.wg.Wait()
		for _, err := range []error{p.proxyErr, p.relErr} {
			var lost *LostError
			if !errors.As(err, &lost) || lost.Reason != Shutdown {
				t.Errorf("lost: %v", err)
			}
		}
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Errorf("it took %v, though the proxy closes at once", d)
		}
	})
}

// TestARelayLingersOnlySoLong for a proxy that does not close.
func TestARelayLingersOnlySoLong(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{}, quiet, quiet)
		p.carriers(t)
		synctest.Wait()
		p.a.Freeze()
		start := time.Now()
		p.stopRelay()
		<-p.relay.Done()
		if d := time.Since(start); d != lingerTime {
			t.Errorf("it lingers for %v", d)
		}
		p.close()
	})
}
