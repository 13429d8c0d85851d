package proxy_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// impostor answers as a relay with a key of its own.
type impostor struct {
	t        *testing.T
	key      *transport.RelayKey
	answered atomic.Int64 // how often
}

func newImpostor(t *testing.T) *impostor {
	t.Helper()
	key, err := transport.NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	return &impostor{t: t, key: key}
}

// instead returns what a proxy gets that dials the impostor.
func (i *impostor) instead(of *simnet.Conn) net.Conn {
	of.Close()
	near, far := simnet.Pipe(simnet.Line{})
	go func() {
		i.answered.Add(1)
		server := transport.Server{Key: i.key, Verifier: &keyauth.Verifier{Authorizer: doorkeeper{&atomic.Bool{}}}}
		c, err := server.Handshake(context.Background(), far, transport.Door{})
		var verify *keyauth.VerifyError
		switch {
		case err == nil:
			i.t.Error("the impostor was let have a link")
			c.Close()
		case errors.As(err, &verify):
			i.t.Errorf("the impostor was told something: %v", err)
		}
	}()
	return near
}

// TestAttackAnotherRelayAnswers: to a proxy whose sessions live, it is one more
// outage: nothing is told or signed, and the right relay carries them on.
func TestAttackAnotherRelayAnswers(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		other := newImpostor(t)
		const from, to = 2, 6
		h := build(t, options{window: time.Hour, wrap: func(n int64, c *simnet.Conn) net.Conn {
			if from <= n && n < to {
				return other.instead(c)
			}
			return c
		}})
		s := h.dial(t)
		roundTrip(t, s, "before")
		proofs := h.proofs.Load()
		h.cut()
		roundTrip(t, s, "after")
		if n := other.answered.Load(); n != to-from {
			t.Errorf("the impostor answered %d times, want %d", n, to-from)
		}
		if n := h.proofs.Load(); n != proofs {
			t.Errorf("keys were looked for %d times more", n-proofs)
		}
		s.Close()
		h.close()
	})
}

// TestAttackAnotherRelayAnswersWithNothingAtStake is a hard stop, with the reason.
func TestAttackAnotherRelayAnswersWithNothingAtStake(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		other := newImpostor(t)
		ended := make(chan error, 1)
		h := build(t, options{
			window: time.Hour,
			gaveUp: func(err error) { ended <- err },
			wrap: func(n int64, c *simnet.Conn) net.Conn {
				if n > 1 {
					return other.instead(c)
				}
				return c
			},
		})
		s := h.dial(t)
		s.Close()
		<-s.Done()
		h.cut()
		var key *transport.RelayKeyError
		var err error
		select {
		case err = <-ended:
		case <-time.After(time.Hour):
		}
		if !errors.As(err, &key) || key.Fingerprint != other.key.Fingerprint {
			t.Errorf("%v", err)
		}
		if n := other.answered.Load(); n != 1 {
			t.Errorf("the impostor answered %d times", n)
		}
		h.close()
	})
}
