package proxy_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAttackMovedLeavesNothingBehind: a proxy says MOVED and never comes back, by
// a crash or on purpose.
func TestAttackMovedLeavesNothingBehind(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c, err := h.client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open := &wire.Open{ID: wire.ID{7}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}}
		c.Write(wire.Append(nil, open))
		if m, err := wire.Read(c); err != nil || m.Type() != wire.TypeOK {
			t.Fatal(m, err)
		}
		c.Write(wire.Append(nil, &wire.Moved{Generation: 2}))
		time.Sleep(time.Second)
		c.Close()
		time.Sleep(50 * time.Hour)
		if h.ended.Load() != 1 {
			t.Error("the relay holds the session, and its target, for ever")
		}
		h.close()
	})
}

// TestAttackAResetThatNobodyHeardIsNoCleanEnd: the target resets while the session
// is detached; the window ends; then the proxy comes.
func TestAttackAResetThatNobodyHeardIsNoCleanEnd(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, target: func(c *simnet.Conn) {
			time.Sleep(30 * time.Second)
			c.Cut()
		}})
		open := &wire.Open{ID: wire.ID{7}, Generation: 1, Target: wire.Target{Host: "10.1.2.3", Port: 22}}
		if _, ok := h.ask(t, open).(*wire.OK); !ok { // its carrier ends while the link lives: one minute
			t.Fatal("not opened")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if h.ended.Load() != 1 {
			t.Fatal("not ended at the relay")
		}
		m := h.ask(t, &wire.Resume{ID: wire.ID{7}, Generation: 2})
		if _, ok := m.(*wire.Refused); !ok {
			t.Errorf("a session that was reset is carried on: %+v", m)
		}
		h.close()
	})
}

// late comes back after the relay's window.
type late struct {
	*client.Client
	pause time.Duration
	once  sync.Once
}

func (l *late) Reopen(ctx context.Context) (*client.Carrier, error) {
	l.once.Do(func() { time.Sleep(l.pause) })
	return l.Client.Reopen(ctx)
}

// TestAttackNobodyHangsOnAGrave is the same as a person feels it: a computer that
// slept longer than the window (timers stand still then).
func TestAttackNobodyHangsOnAGrave(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: 24 * time.Hour, target: func(c *simnet.Conn) {
			io.ReadFull(c, make([]byte, 5))
			time.Sleep(30 * time.Second)
			c.Cut()
		}})
		carriers := &late{Client: h.client, pause: 2 * time.Minute}
		owner := client.Owner{Carriers: carriers, Relay: "relay.test"}
		s := session.Open(session.Config{}, wire.Target{Host: "10.1.2.3", Port: 22})
		ctx, cancel := context.WithCancel(context.Background())
		first := &leaving{Client: h.client}
		owner.Carriers = both{first, carriers}
		if err := owner.Start(ctx, ctx, s, nil); err != nil {
			t.Fatal(err)
		}
		<-s.Opened()
		io.WriteString(s, "hello")
		time.Sleep(time.Second)
		first.c.Close() // as when a daemon is restarted: the link lives a moment longer
		io.WriteString(s, "is anybody there?")
		start := time.Now()
		ended := make(chan error, 1)
		go func() {
			_, err := s.Read(make([]byte, 1))
			ended <- err
		}()
		select {
		case err := <-ended:
			var reset *session.ResetError
			var refused *session.RefusedError
			if !errors.As(err, &reset) && !errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
			if d := time.Since(start); d > 10*time.Minute {
				t.Errorf("ended after %v: %v", d, err)
			}
		case <-time.After(1000 * time.Hour):
			t.Error("hangs for ever")
		}
		t.Logf("%d carriers, ended %v after the loss", s.Stats().Carriers, time.Since(start))
		cancel()
		owner.Wait()
		h.close()
	})
}

type leaving struct {
	*client.Client
	c *client.Carrier
}

func (l *leaving) Open(ctx context.Context) (c *client.Carrier, err error) {
	l.c, err = l.Client.Open(ctx)
	return l.c, err
}

type both struct {
	first  *leaving
	second *late
}

func (b both) Open(ctx context.Context) (*client.Carrier, error)   { return b.first.Open(ctx) }
func (b both) Reopen(ctx context.Context) (*client.Carrier, error) { return b.second.Reopen(ctx) }
