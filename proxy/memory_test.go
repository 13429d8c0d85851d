package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// chatter is a target that says 4 MiB at once and then echoes.
func chatter(c *simnet.Conn) {
	go c.Write(random(4 << 20))
	io.Copy(io.Discard, c)
}

// TestSleepersDoNotLockOutTheAwake: sessions whose client is away fill what they
// may, a new one gets in all the same, and those that come back go on unless they
// had to be ended: then they hear why.
func TestSleepersDoNotLockOutTheAwake(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const sleepers = 40
		h := build(t, options{
			window: 24 * time.Hour, target: chatter,
			limits: relay.Limits{Memory: 32 << 20}, // 8 MiB for this key
		})
		var all []*session.Session
		for range sleepers {
			all = append(all, h.dial(t))
		}
		time.Sleep(time.Minute)
		h.down.Store(true)
		h.cut()
		time.Sleep(time.Hour)
		h.down.Store(false)
		time.Sleep(time.Minute)
		for i := range 20 {
			c := h.dial(t)
			got := make([]byte, 100_000)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, random(4 << 20)[:len(got)]) {
				t.Fatalf("session %d: %v", i, err)
			}
			c.Abort(nil)
		}
		lived, evicted := 0, 0
		for i, c := range all {
			got := make([]byte, 1<<20)
			_, err := io.ReadFull(c, got)
			var reset *session.ResetError
			switch {
			case err == nil && bytes.Equal(got, random(4 << 20)[:len(got)]):
				lived++
			case errors.As(err, &reset) && reset.Code == wire.CodeEvicted:
				evicted++
			default:
				t.Errorf("sleeper %d: %v", i, err)
			}
			c.Abort(nil)
		}
		t.Logf("%d sleepers lived, %d were evicted", lived, evicted)
		if lived < sleepers/2 {
			t.Errorf("only %d of %d sleepers lived", lived, sleepers)
		}
		if n, others := h.hits.of(relay.LimitMemoryPerKey); n != evicted || others != 0 {
			t.Errorf("counted %d times, other limits %d", n, others)
		}
		synctest.Wait()
		h.close()
	})
}

// TestWhoeverHoldsMostGivesFirst: an attached crowd needs memory, and the longest
// sleepers of the largest holder go; a full relay then says that it is busy.
func TestTheLongestSleeperGoesFirst(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			window: 24 * time.Hour, target: chatter,
			limits: relay.Limits{Memory: 16 << 20}, // 4 MiB for this key
		})
		// Each takes what it may while it is attached: nobody reads here.
		var all []*session.Session
		var refused *session.RefusedError
		for refused == nil {
			conn, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
			if errors.As(err, &refused) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			s, _ := conn.(*session.Session)
			all = append(all, s)
			time.Sleep(time.Second)
			if len(all) > 1000 {
				t.Fatal("memory has no end")
			}
		}
		if refused.Code != wire.CodeBusy || len(all) < 8 {
			t.Errorf("%v after %d sessions", refused, len(all))
		}
		if n, others := h.hits.of(relay.LimitMemoryPerKey); n != 1 || others != 0 {
			t.Errorf("counted %d times, other limits %d", n, others)
		}
		// What is refused is what the operator sees to be full.
		if used, limit := h.relay.Memory(); limit != 16<<20 || used < limit/4-limit/64 || used > limit/2 {
			t.Errorf("%d bytes held of %d, where the key's quarter is full", used, limit)
		}
		h.cut() // they all sleep for a moment, and can be ended
		h.down.Store(true)
		time.Sleep(time.Minute)
		h.down.Store(false)
		time.Sleep(time.Minute)
		for _, s := range all {
			s.Abort(nil)
		}
		time.Sleep(time.Minute)
		roomy := h.dial(t)
		if _, err := io.ReadFull(roomy, make([]byte, 1<<20)); err != nil {
			t.Error(err)
		}
		roomy.Abort(nil)
		h.close()
	})
}
