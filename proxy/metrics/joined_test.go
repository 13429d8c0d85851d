package metrics

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// keys authorizes everyone, or nobody.
type keys bool

func (k keys) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, bool(k)
}

// listener hands out the far ends of what the proxy dials.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return simnet.Addr("listener") }

// house is a proxy and a relay, both counted, whose targets echo. Only what
// listens on 10.0.0.1 answers.
type house struct {
	client *client.Client
	p, r   *Metrics
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	uplink *simnet.Conn // the proxy's end of the newest link
}

var policy = heartbeat.Policy{Interval: 10 * time.Second, Timeout: 2 * time.Second, CountMax: 3}

// identities is one key of the user's.
func identities(t *testing.T) *keyauth.Identities {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func build(t *testing.T, who keys) *house {
	t.Helper()
	h := &house{
		p: New(Config{Role: RoleProxy, Heartbeat: policy}),
		r: New(Config{Role: RoleRelay, Heartbeat: policy}),
	}
	ids := identities(t)
	relayKey, err := transport.NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	allow, err := relay.ParsePolicy([]string{"10.0.0.0/8:*"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: relayKey, Verifier: &keyauth.Verifier{Authorizer: who}},
		Dialer: &relay.Dialer{
			Policy:         allow,
			InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil },
			DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
				if address != "10.0.0.1:22" {
					return nil, syscall.ECONNREFUSED
				}
				near, far := simnet.Pipe(simnet.Line{})
				h.wg.Go(func() {
					defer far.Close()
					io.Copy(far, far)
				})
				return near, nil
			},
		},
		Heartbeat: policy,
		Trace:     h.r.Relay(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	ln := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	h.client, err = client.New(client.Config{
		Dialer: &transport.Dialer{
			Relay:      "relay.test:7422",
			Trust:      transport.Trust{Pins: []string{relayKey.Fingerprint}},
			Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
			NetDial: func(context.Context, string, string) (net.Conn, error) {
				a, b := simnet.Pipe(simnet.Line{Delay: 20 * time.Millisecond})
				select {
				case ln.conns <- b:
					h.mu.Lock()
					defer h.mu.Unlock()
					h.uplink = a
					return a, nil
				case <-ln.closed:
					a.Close()
					b.Close()
					return nil, syscall.ECONNREFUSED
				}
			},
		},
		Heartbeat: policy,
		Trace:     h.p.Proxy(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.wg.Go(func() { _ = r.Serve(ctx, ln) })
	h.wg.Go(func() { _ = h.client.Run(ctx) })
	return h
}

// want checks numbers of one end; those that are not named may be anything.
func want(t *testing.T, m *Metrics, numbers map[string]float64) {
	t.Helper()
	got := read(t, m)
	for key, v := range numbers {
		if value, ok := got[key]; !ok || value != v {
			t.Errorf("%s: %s is %v, want %v", m.role, key, value, v)
		}
	}
}

// TestAMorningInNumbers: what client and relay really do arrives in the numbers.
func TestAMorningInNumbers(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, true)
		c, err := h.client.DialContext(t.Context(), "tcp", "10.0.0.1:22")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "good morning")
		io.ReadFull(c, make([]byte, 12))
		if _, err := h.client.DialContext(t.Context(), "tcp", "10.0.0.2:22"); err == nil {
			t.Error("a target that is not there")
		}
		if _, err := h.client.DialContext(t.Context(), "tcp", "192.0.2.1:22"); err == nil {
			t.Error("a target that is not allowed")
		}
		time.Sleep(time.Hour)
		open := map[string]float64{
			"sshka_links":                                     1,
			"sshka_sessions{state=attached}":                  1,
			"sshka_sessions{state=detached}":                  0,
			"sshka_sessions_opened_total{result=ok}":          1,
			"sshka_sessions_opened_total{result=refused}":     1,
			"sshka_sessions_opened_total{result=not_allowed}": 1,
			"sshka_session_bytes_total{direction=to_target}":  12,
			"sshka_session_bytes_total{direction=to_client}":  12,
			"sshka_heartbeats_missed_total":                   0,
			"sshka_heartbeat_interval_seconds":                10,
		}
		want(t, h.r, open)
		maps.Copy(open, map[string]float64{"sshka_link_up": 1, "sshka_link_dials_total{result=ok}": 1})
		want(t, h.p, open)
		sent := read(t, h.p)["sshka_heartbeats_sent_total"] + read(t, h.r)["sshka_heartbeats_sent_total"]
		if rtts := read(t, h.p)["sshka_heartbeat_rtt_seconds"] + read(t, h.r)["sshka_heartbeat_rtt_seconds"]; sent < 360 || rtts < sent-2 {
			t.Errorf("%v beats, %v answered", sent, rtts)
		}

		c.Close()
		time.Sleep(time.Minute)
		for _, m := range []*Metrics{h.p, h.r} {
			want(t, m, map[string]float64{
				"sshka_sessions{state=attached}":                 0,
				"sshka_sessions_ended_total{reason=closed}":      1,
				"sshka_session_bytes_total{direction=to_target}": 12,
			})
		}

		h.mu.Lock()
		uplink := h.uplink
		h.mu.Unlock()
		uplink.Hole(true) // the path goes, and tells nobody
		time.Sleep(30 * time.Second)
		want(t, h.p, map[string]float64{
			"sshka_links_lost_total{reason=missed_beats}": 1,
			"sshka_heartbeats_missed_total":               1, // enough for another link, which works
			"sshka_links":                                 1, // the next
			"sshka_link_up":                               1,
		})
		h.stop()
		h.wg.Wait()
		want(t, h.p, map[string]float64{"sshka_link_up": 0, "sshka_links": 0})
		want(t, h.r, map[string]float64{"sshka_links": 0})
		uplink.Close()
	})
}

func TestAStrangerInNumbers(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, false)
		if _, err := h.client.DialContext(t.Context(), "tcp", "10.0.0.1:22"); err == nil {
			t.Error("let in")
		}
		synctest.Wait()
		want(t, h.p, map[string]float64{
			"sshka_link_up":                               0,
			"sshka_link_dials_total{result=denied}":       1,
			"sshka_sessions_opened_total{result=no_link}": 1,
		})
		time.Sleep(time.Minute)
		want(t, h.r, map[string]float64{"sshka_links": 0, "sshka_auth_failures_total{reason=no_key}": 1})
		h.stop()
		h.wg.Wait()
	})
}
