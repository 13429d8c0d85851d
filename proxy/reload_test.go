package proxy_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// What changes while a relay runs, and what stays.

// reconfigured returns a configuration like the house's with other rules.
func reconfigured(t *testing.T, h *house, who keyauth.Authorizer, allow ...string) relay.Config {
	t.Helper()
	relayKey, _ := keys()
	policy, err := relay.ParsePolicy(allow, nil)
	if err != nil {
		t.Fatal(err)
	}
	if who == nil {
		who = doorkeeper{&h.shut}
	}
	return relay.Config{
		Transport: &transport.Server{Key: relayKey, Verifier: &keyauth.Verifier{Authorizer: who}},
		Dialer: &relay.Dialer{
			Policy:         policy,
			InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil },
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := simnet.Pipe(simnet.Line{})
				h.mu.Lock()
				h.targets = append(h.targets, far)
				h.mu.Unlock()
				return near, nil
			},
		},
		Window: time.Hour,
	}
}

func refusedWith(t *testing.T, err error) *session.RefusedError {
	t.Helper()
	var refused *session.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("%v, want a refusal", err)
	}
	return refused
}

// TestAnotherPolicyCountsForTheNextSession: the session that is there goes on, over
// the link that is there.
func TestAnotherPolicyCountsForTheNextSession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		if err := h.relay.Reconfigure(t.Context(), reconfigured(t, h, nil, "192.0.2.0/24:22")); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, "after")
		_, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		if refused := refusedWith(t, err); refused.Code != wire.CodeNotAllowed {
			t.Errorf("the old target is refused with %v", refused.Code)
		}
		other, err := h.client.DialContext(t.Context(), "tcp", "192.0.2.1:22")
		if err != nil {
			t.Fatalf("the new target: %v", err)
		}
		other.Close()
		h.cut() // and it resumes
		roundTrip(t, c, "later")
		if n := h.proofs.Load(); n != 1 {
			t.Errorf("%d proofs of the key: the tickets were lost", n)
		}
		c.Close()
		time.Sleep(time.Minute)
		h.close()
	})
}

// TestARefusedConfigurationChangesNothing of a relay.
func TestARefusedConfigurationChangesNothing(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		cfg := reconfigured(t, h, nil, "192.0.2.0/24:22")
		cfg.Heartbeat = heartbeat.Policy{Interval: time.Nanosecond}
		if err := h.relay.Reconfigure(t.Context(), cfg); err == nil {
			t.Error("an interval of a nanosecond was taken")
		}
		roundTrip(t, h.dial(t), "as before")
		h.close()
	})
}

// TestLimitsCountAtOnce: nobody is turned out, and the next one meets the new limit.
func TestLimitsCountAtOnce(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		first, second := h.dial(t), h.dial(t)
		cfg := reconfigured(t, h, nil, "10.0.0.0/8:*")
		cfg.Limits.SessionsPerKey = 2
		if err := h.relay.Reconfigure(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		_, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		if refused := refusedWith(t, err); refused.Code != wire.CodeBusy {
			t.Errorf("refused with %v", refused.Code)
		}
		roundTrip(t, first, "one")
		roundTrip(t, second, "two")
		h.close()
	})
}

// TestHeartbeatsOfTheNextLink: a link keeps the interval that it began with.
func TestHeartbeatsOfTheNextLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		cfg := reconfigured(t, h, nil, "10.0.0.0/8:*")
		cfg.Heartbeat = heartbeat.Policy{Interval: 7 * time.Second}
		if err := h.relay.Reconfigure(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		interval := func() time.Duration {
			return time.Duration(h.relay.Snapshot().Links[0].Interval)
		}
		before := interval()
		h.cut()
		roundTrip(t, c, "resumed")
		if after := interval(); before == 7*time.Second || after != 7*time.Second {
			t.Errorf("an interval of %v, and %v after a cut", before, after)
		}
		h.close()
	})
}

// TestAnotherListOfKeysEndsWhomItDoesNotKnow and nobody else.
func TestAnotherListOfKeysEndsWhomItDoesNotKnow(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, keys: newList(t, "")})
		c := h.dial(t)
		if err := h.relay.Reconfigure(t.Context(), reconfigured(t, h, newList(t, `permitopen="*:22" `), "10.0.0.0/8:*")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		roundTrip(t, c, "the new list knows me")
		stranger := newList(t, "")
		stranger.write("# nobody\n")
		if err := h.relay.Reconfigure(t.Context(), reconfigured(t, h, stranger, "10.0.0.0/8:*")); err != nil {
			t.Fatal(err)
		}
		if took := revoked(t, c); took > 10*time.Second {
			t.Errorf("ended after %v", took)
		}
		h.close()
	})
}

// shy is a list that knows only those whom it was asked about before, as a command.
type shy struct {
	mu    sync.Mutex // guards asked
	asked int
}

func (l *shy) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return keyauth.Grant{}, true
}

func (l *shy) Version() uint64 { return 0 }

func (l *shy) Recheck(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return keyauth.Grant{}, l.asked > 0
}

// TestANewListIsAskedAboutThoseWhoAreIn before it may end them: once for each key.
func TestANewListIsAskedAboutThoseWhoAreIn(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, keys: newList(t, "")})
		first, second := h.dial(t), h.dial(t)
		fresh := &shy{}
		if err := h.relay.Reconfigure(t.Context(), reconfigured(t, h, fresh, "10.0.0.0/8:*")); err != nil {
			t.Fatal(err)
		}
		if fresh.asked != 1 {
			t.Errorf("asked %d times", fresh.asked)
		}
		time.Sleep(10 * time.Minute)
		roundTrip(t, first, "one")
		roundTrip(t, second, "two")
		h.close()
	})
}

func TestListenersComeAndGoUnderALink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		old, fresh := h.ln, newListener()
		if err := h.relay.Relisten(fresh); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-old.closed:
		default:
			t.Error("the old listener is still open")
		}
		roundTrip(t, c, "the link stays")
		if err := h.relay.Alive(t.Context()); err != nil {
			t.Errorf("Alive: %v", err)
		}
		h.setListener(fresh)
		h.cut()
		roundTrip(t, c, "and comes again by the new one")
		h.stopServ()
		synctest.Wait()
		time.Sleep(time.Second)
		if err := h.relay.Relisten(newListener()); err == nil || h.relay.Ready() == nil {
			t.Errorf("a relay that has ended: Relisten %v, Ready %v", err, h.relay.Ready())
		}
		h.close()
	})
}

// A relay that drains.
func TestDrainWaitsForTheSessions(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "before")
		if err := h.relay.Ready(); err != nil {
			t.Errorf("before: %v", err)
		}
		if s := h.relay.Snapshot(); s.Draining {
			t.Error("it drains before it is told to")
		}
		left := make(chan int, 10)
		over := make(chan int, 1)
		h.wg.Go(func() { over <- h.relay.Drain(context.Background(), func(n int) { left <- n }) })
		synctest.Wait()
		if n := <-left; n != 1 {
			t.Errorf("%d sessions left", n)
		}
		if err := h.relay.Ready(); err == nil || !strings.Contains(err.Error(), "draining") {
			t.Errorf("while it drains it is ready: %v", err)
		}
		if s := h.relay.Snapshot(); !s.Draining {
			t.Error("its snapshot does not say that it drains")
		}
		roundTrip(t, c, "goes on")
		time.Sleep(10 * time.Second) // GOAWAY has made another link: to come back by
		_, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		if refused := refusedWith(t, err); refused.Code != wire.CodeShuttingDown || refused.Error() != "the relay shuts down and takes no new sessions" {
			t.Errorf("%v: %v", refused.Code, refused)
		}
		for range 3 { // every path is lost, and it resumes
			h.mu.Lock()
			for _, p := range h.paths {
				p.Cut()
			}
			h.mu.Unlock()
			roundTrip(t, c, "resumed")
			time.Sleep(time.Minute)
		}
		if err := h.relay.Alive(t.Context()); err != nil {
			t.Errorf("Alive: %v", err)
		}
		select {
		case n := <-over:
			t.Fatalf("ended with %d left", n)
		default:
		}
		c.CloseWrite()
		start := time.Now()
		if n := <-over; n != 0 || time.Since(start) > 5*time.Second {
			t.Errorf("%d left after %v", n, time.Since(start))
		}
		// Whoever has nothing here is sent away.
		if _, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22"); err == nil {
			t.Error("a new session after the drain")
		}
		h.close()
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if n := h.relay.Drain(ctx, func(int) {}); n != 1 || time.Since(start) != time.Hour {
			t.Errorf("%d left after %v", n, time.Since(start))
		}
		h.stopServ()
		_, err := c.Read(make([]byte, 1))
		var reset *session.ResetError
		if !errors.As(err, &reset) || reset.Code != wire.CodeShuttingDown {
			t.Errorf("%v, want a reset by the relay that shuts down", err)
		}
		h.close()
	})
}

// TestADrainingRelaySendsNewcomersAway: a proxy without sessions is denied, and not
// for good.
func TestADrainingRelaySendsNewcomersAway(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		time.Sleep(time.Second)
		h.relay.Drain(t.Context(), func(int) {})
		time.Sleep(10 * time.Second) // GOAWAY is there
		_, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		var denied *keyauth.DeniedError
		if !errors.As(err, &denied) || denied.Code != wire.CodeShuttingDown {
			t.Errorf("%v, want to be denied for now", err)
		}
		h.close()
	})
}

// TestATunedClient beats as it did on the link that is there, and otherwise on the
// next.
func TestATunedClient(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		if err := h.client.Tune(client.Tuning{Heartbeat: heartbeat.Policy{Interval: time.Nanosecond}}); err == nil {
			t.Error("an interval of a nanosecond was taken")
		}
		if err := h.client.Tune(client.Tuning{Heartbeat: heartbeat.Policy{Interval: 7 * time.Second}}); err != nil {
			t.Fatal(err)
		}
		interval := func() time.Duration { return time.Duration(h.client.Snapshot().Links[0].Interval) }
		if d := interval(); d != heartbeat.DefaultInterval {
			t.Errorf("an interval of %v on the link that was there", d)
		}
		h.cut()
		roundTrip(t, c, "resumed")
		if d := interval(); d != 7*time.Second {
			t.Errorf("an interval of %v on the next", d)
		}
		if err := h.client.Alive(t.Context()); err != nil {
			t.Errorf("Alive: %v", err)
		}
		h.close()
		if err := h.client.Alive(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Alive of one that has ended: %v", err)
		}
	})
}
