package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// unreachable is a dialer whose network says err.
func unreachable(t *testing.T, err error, dials *atomic.Int64) *transport.Dialer {
	t.Helper()
	ids, _, idErr := keyauth.Ephemeral()
	if idErr != nil {
		t.Fatal(idErr)
	}
	return &transport.Dialer{
		Relay:      "relay.test:7422",
		Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
		NetDial: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, err
		},
	}
}

func TestAFailedAttemptIsToldAndTriedAgainForTheNextCaller(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cause := errors.New("no network")
		var dials atomic.Int64
		c, err := New(Config{Dialer: unreachable(t, cause, &dials)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			before := dials.Load()
			start := time.Now()
			if _, err := c.Open(t.Context()); !errors.Is(err, cause) || !Unreachable(err) {
				t.Errorf("%v", err)
			}
			if dials.Load() == before || time.Since(start) > shortPause {
				t.Errorf("%d new dials after %v", dials.Load()-before, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		cancel()
		wg.Wait()
		if _, err := c.Open(t.Context()); err == nil {
			t.Error("opened on a closed client")
		}
	})
}

func TestRedialBacksOffWithoutMercyOrHurry(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var dials atomic.Int64
		c, err := New(Config{Dialer: unreachable(t, errors.New("no network"), &dials)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		// Full jitter below 5 s for ten minutes, then below 30 s.
		if n := dials.Load(); n < 200 || n > 3600 {
			t.Errorf("%d dials in an hour", n)
		}
	})
}

func TestWhatNoRetryMendsEndsRun(t *testing.T) {
	c, err := New(Config{Dialer: &transport.Dialer{
		Relay:      "relay.test:7422",
		Identities: func(context.Context) (*keyauth.Identities, error) { return nil, keyauth.ErrNoKeys },
	}})
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		_, err := c.Open(context.Background())
		opened <- err
	}()
	if err := c.Run(t.Context()); !errors.Is(err, keyauth.ErrNoKeys) {
		t.Errorf("%v", err)
	}
	if err := <-opened; !errors.Is(err, keyauth.ErrNoKeys) {
		t.Errorf("%v", err)
	}
}

// TestNoWayAroundARelayThatSaysNo: a fallback is for networks, not for keys.
func TestNoWayAroundARelayThatSaysNo(t *testing.T) {
	c := &Client{cfg: Config{Fallback: &Direct{}, Trace: &Trace{}}}
	for err, want := range map[error]bool{
		&transport.DialError{Relay: "r", Err: errors.New("refused")}: true,
		&transport.RelayKeyError{Relay: "r"}:                         false,
		&keyauth.DeniedError{}:                                       false,
		keyauth.ErrNoKeys:                                            false,
	} {
		if got := c.FallsBack(t.Context(), "db:22", err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestTargets(t *testing.T) {
	for address, want := range map[string]string{
		"db.internal:22":                 "db.internal:22",
		"[2001:db8::1]:22":               "[2001:db8::1]:22",
		"db":                             "missing port",
		"db:":                            `"" is not a port`,
		"db:0":                           `"0" is not a port`,
		"db:65536":                       `"65536" is not a port`,
		":22":                            "host is empty",
		strings.Repeat("x", 256) + ":22": "at most 255",
	} {
		target, err := ParseTarget(address)
		if err == nil && target.String() != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", address, target, err)
		}
	}
}
