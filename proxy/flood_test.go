package proxy_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// openRelay is a relay on a real loopback port, and a dialer for it.
func openRelay(t *testing.T, limits relay.Limits) (address string, d *transport.Dialer, hit *hits) {
	t.Helper()
	hit = &hits{}
	relayKey, userKey := keys()
	id := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(id, userKey, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: relayKey, Verifier: &keyauth.Verifier{Authorizer: doorkeeper{new(atomic.Bool)}}},
		Dialer:    &relay.Dialer{},
		Limits:    limits,
		Trace:     &relay.Trace{LimitHit: hit.count},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := r.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	return ln.Addr().String(), &transport.Dialer{
		Relay:      ln.Addr().String(),
		Trust:      transport.Trust{Pins: []string{relayKey.Fingerprint}},
		Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
	}, hit
}

// TestHalfOpenConnectionsLockNobodyOut: ten thousand connections from one place
// that say nothing, or stop in the middle of TLS, while others come in.
func TestHalfOpenConnectionsLockNobodyOut(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("another loopback address is needed, which Linux has")
	}
	const flood, legitimate = 10_000, 50
	address, d, hit := openRelay(t, relay.Limits{})
	evil := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var calm, stormy []time.Duration
	dial := func() time.Duration {
		start := time.Now()
		c, err := d.Dial(t.Context())
		if err != nil {
			t.Error(err)
			return 0
		}
		defer c.Close()
		return time.Since(start)
	}
	for range legitimate {
		calm = append(calm, dial())
	}
	var open atomic.Int64
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		wg.Go(func() {
			var last []net.Conn // open at this end: the relay closes what it turns out
			for ctx.Err() == nil && open.Load() < flood {
				c, err := evil.DialContext(ctx, "tcp", address)
				if err != nil {
					continue
				}
				if open.Add(1)%2 == 0 {
					_, _ = c.Write([]byte{0x16, 3, 1, 2, 0, 1}) // a ClientHello that goes no further
				}
				if last = append(last, c); len(last) > 200 {
					last[0].Close()
					last = last[1:]
				}
			}
			for _, c := range last {
				c.Close()
			}
		})
	}
	for len(stormy) < legitimate || open.Load() < flood && ctx.Err() == nil {
		stormy = append(stormy, dial())
		if t.Failed() {
			break
		}
	}
	stop()
	wg.Wait()
	// The first ones filled the lobby; each further one turned another out, or was not
	// let in.
	n, others := hit.of(relay.LimitHandshakes)
	if n < flood/2 || others != 0 {
		t.Errorf("%d half-open connections, counted %d times, other limits %d", open.Load(), n, others)
	}
	slices.Sort(calm)
	slices.Sort(stormy)
	t.Logf("%d half-open; %d links before, median %v, longest %v; %d during, median %v, longest %v", open.Load(),
		len(calm), calm[len(calm)/2], calm[len(calm)-1], len(stormy), stormy[len(stormy)/2], stormy[len(stormy)-1])
}
