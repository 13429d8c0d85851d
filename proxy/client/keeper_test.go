package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestOnePromptAtATime: while a person looks for the key to touch there is no other
// attempt, however many sessions wait.
func TestOnePromptAtATime(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var dials atomic.Int64
		c, err := New(Config{Dialer: unreachable(t, errors.New("no network"), &dials)})
		if err != nil {
			t.Fatal(err)
		}
		k := &keeper{c: c, events: make(chan func()), over: make(chan struct{})}
		var cancel context.CancelFunc
		k.ctx, cancel = context.WithCancel(t.Context())
		prompt := &attempt{cancel: func() {}, signing: true}
		k.attempts = []*attempt{prompt}
		c.waiting.Store(5)
		k.dial()
		k.hurry(true)
		k.hurry(false)
		if dials.Load() != 0 || len(k.attempts) != 1 || !k.at.IsZero() {
			t.Errorf("%d attempts beside a prompt, another at %v", len(k.attempts), k.at)
		}
		prompt.signing = false
		k.dial()
		if len(k.attempts) != 2 {
			t.Errorf("%d attempts once the prompt is gone", len(k.attempts))
		}
		cancel()
		close(k.over)
		k.tasks.Wait()
	})
}

// everybody is authorized.
type everybody struct{}

func (everybody) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, true
}

// hostile is a relay that lets everybody in, or nobody, and says what it likes.
type hostile struct {
	server transport.Server
	deny   *wire.Denied
	link   link.Config
	wg     sync.WaitGroup
	dials  atomic.Int64
}

// meet is a proxy's NetDial.
func (h *hostile) meet(context.Context, string, string) (net.Conn, error) {
	h.dials.Add(1)
	a, b := simnet.Pipe(simnet.Line{})
	h.wg.Go(func() {
		conn, err := h.server.Handshake(context.Background(), b, transport.Door{Admit: func(keyauth.Identity) (*wire.Welcome, *wire.Denied) {
			return &wire.Welcome{}, h.deny
		}})
		if err != nil {
			return
		}
		l, err := link.Server(conn.Conn, conn.Meter, h.link)
		if err != nil {
			conn.Close()
			return
		}
		stay, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = l.Run(stay) // says goodbye, and when to come back
	})
	return a, nil
}

// TestNoRelayKeepsUsAwayForLong: neither with its farewell nor with a refusal.
func TestNoRelayKeepsUsAwayForLong(t *testing.T) {
	const ages = 1000 * time.Hour
	for name, h := range map[string]*hostile{
		"farewell":  {link: link.Config{ComeBack: ages}},
		"refusal":   {deny: &wire.Denied{Code: wire.CodeBusy, RetryAfter: ages}},
		"slow down": {deny: &wire.Denied{Code: wire.CodeSlowDown, RetryAfter: ages}},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				key, err := transport.NewRelayKey()
				if err != nil {
					t.Fatal(err)
				}
				ids, _, err := keyauth.Ephemeral()
				if err != nil {
					t.Fatal(err)
				}
				h.server = transport.Server{Key: key, Verifier: &keyauth.Verifier{Authorizer: everybody{}}}
				c, err := New(Config{
					Dialer: &transport.Dialer{
						Relay: "relay.test:7422", Trust: transport.Trust{Pins: []string{key.Fingerprint}}, NetDial: h.meet,
						Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
					},
					Heartbeat: heartbeat.Policy{Interval: time.Second},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { _ = c.Run(ctx) })
				time.Sleep(2*maxComeBack + time.Minute)
				if n := h.dials.Load(); n < 2 || n > 5 {
					t.Errorf("%d dials in %v", n, 2*maxComeBack+time.Minute)
				}
				cancel()
				wg.Wait()
				h.wg.Wait()
			})
		})
	}
}
