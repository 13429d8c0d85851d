package proxy_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/notice"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// house is a proxy and a relay with everything between them, in virtual time.
type house struct {
	client *client.Client
	relay  *relay.Relay
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	ln       *listener      // of the relay
	uplink   *simnet.Conn   // the proxy's end of the newest link
	paths    []*simnet.Conn // the proxy's ends of all of them, newest last
	dials    atomic.Int64   // TCP connections the proxy asked for
	hung     atomic.Int64   // of them that get no answer now
	proofs   atomic.Int64   // times the proxy looked for a key
	reached  atomic.Int64   // times the relay dialled a target
	ups      atomic.Int64   // links that sessions could use
	doubts   atomic.Int64   // times the proxy suspected a link
	missed   atomic.Int64
	ended    atomic.Int64 // sessions, at the relay
	down     atomic.Bool  // the relay refuses connections
	shut     atomic.Bool  // the relay authorizes nobody
	ends     []error      // why sessions ended, at the relay
	lost     []*link.LostError
	targets  []*simnet.Conn // the targets' ends, newest last
	stopServ context.CancelFunc
	hits     hits
}

// hits are the limits that a relay's peers have hit.
type hits struct {
	mu sync.Mutex // guards by
	by map[relay.Limit]int
}

func (h *hits) count(l relay.Limit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = make(map[relay.Limit]int)
	}
	h.by[l]++
}

// of returns how often a limit was hit, and how often all others were.
func (h *hits) of(l relay.Limit) (this, others int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, n := range h.by {
		if name == l {
			this = n
		} else {
			others += n
		}
	}
	return this, others
}

type options struct {
	line      simnet.Line // between proxy and relay
	heartbeat heartbeat.Policy
	target    func(c *simnet.Conn) // what runs on a target; nil echoes
	dialErr   error                // what the relay's dial returns instead
	window    time.Duration        // how long the relay keeps a session; 0: it ends with its link
	fallback  *client.Direct
	limits    relay.Limits
	maxAge    time.Duration
	notices   chan notice.Event                         // the proxy is told them
	hang      func(dial int64) bool                     // the n-th dial gets no answer
	wrap      func(dial int64, c *simnet.Conn) net.Conn // what the proxy gets of the n-th
	dialTime  time.Duration                             // of targets
	ticket    func() []keyauth.Ticket
	keys      keyauth.Authorizer // nil: a doorkeeper
	from      func() string      // where the relay sees the proxy come from
	agent     string             // the proxy's name for itself
	log       *slog.Logger       // the relay's
	gaveUp    func(error)        // is told why the proxy's Run ended; nil: it must not
}

// doorkeeper authorizes every key until it is shut.
type doorkeeper struct{ shut *atomic.Bool }

func (d doorkeeper) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, !d.shut.Load()
}

// keys are made once: they are the same for every test.
var keys = sync.OnceValues(func() (*transport.RelayKey, []byte) {
	relayKey, err := transport.NewRelayKey()
	if err != nil {
		panic(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		panic(err)
	}
	return relayKey, pem.EncodeToMemory(block)
})

// build joins proxy and relay and returns when both run.
func build(t *testing.T, o options) *house {
	t.Helper()
	relayKey, userKey := keys()
	id := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(id, userKey, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{}
	trace := link.Trace{BeatMissed: func(int) { h.missed.Add(1) }}
	policy, err := relay.ParsePolicy([]string{"10.0.0.0/8:*"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.target == nil {
		o.target = func(c *simnet.Conn) {
			io.Copy(c, c)
			c.CloseWrite()
		}
	}
	if o.keys == nil {
		o.keys = doorkeeper{&h.shut}
	}
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: relayKey, Verifier: &keyauth.Verifier{Authorizer: o.keys}},
		Dialer: &relay.Dialer{
			Policy:         policy,
			InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil },
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				h.reached.Add(1)
				if o.dialErr != nil {
					return nil, o.dialErr
				}
				time.Sleep(o.dialTime)
				near, far := simnet.Pipe(simnet.Line{})
				h.mu.Lock()
				h.targets = append(h.targets, far)
				h.mu.Unlock()
				h.wg.Go(func() {
					defer far.Close()
					o.target(far)
				})
				return near, nil
			},
		},
		Heartbeat: o.heartbeat,
		Window:    o.window,
		Limits:    o.limits,
		Log:       o.log,
		Trace: &relay.Trace{
			Link:     trace,
			LimitHit: h.hits.count,
			Ended: func(_ session.Stats, err error) {
				h.ended.Add(1)
				h.mu.Lock()
				defer h.mu.Unlock()
				h.ends = append(h.ends, err)
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.relay = r
	proxyTrace := trace
	proxyTrace.Suspected = func(link.Reason) { h.doubts.Add(1) }
	ln := newListener()
	h.ln = ln
	h.client, err = client.New(client.Config{
		Dialer: &transport.Dialer{
			Relay: "relay.test:7422",
			Agent: o.agent,
			Trust: transport.Trust{Pins: []string{relayKey.Fingerprint}},
			Identities: func(context.Context) (*keyauth.Identities, error) {
				h.proofs.Add(1)
				return ids, nil
			},
			NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				n := h.dials.Add(1)
				switch {
				case h.down.Load():
					return nil, syscall.ECONNREFUSED
				case o.hang != nil && o.hang(n):
					h.hung.Add(1)
					defer h.hung.Add(-1)
					<-ctx.Done()
					return nil, ctx.Err()
				}
				a, b := simnet.Pipe(o.line)
				h.mu.Lock()
				h.uplink = a
				h.paths = append(h.paths, a)
				ln := h.ln
				h.mu.Unlock()
				far := net.Conn(b)
				if o.from != nil {
					far = comesFrom{b, simnet.Addr(o.from())}
				}
				select {
				case ln.conns <- far:
					if o.wrap != nil {
						return o.wrap(n, a), nil
					}
					return a, nil
				case <-ln.closed:
					a.Close()
					b.Close()
					return nil, syscall.ECONNREFUSED
				}
			},
		},
		Heartbeat: o.heartbeat,
		Fallback:  o.fallback,
		MaxAge:    o.maxAge,
		Tickets:   o.ticket,
		Notice: func(ctx context.Context, told func(notice.Event)) {
			for {
				select {
				case e := <-o.notices:
					told(e)
				case <-ctx.Done():
					return
				}
			}
		},
		Trace: &client.Trace{
			Link:     proxyTrace,
			LinkUp:   func(*transport.Conn) { h.ups.Add(1) },
			LinkLost: func(e *link.LostError) { h.lost = append(h.lost, e) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ctx, servCtx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	servCtx, h.stopServ = context.WithCancel(ctx)
	h.wg.Go(func() {
		if err := r.Serve(servCtx, ln); err != nil {
			t.Error(err)
		}
	})
	h.wg.Go(func() {
		switch err := h.client.Run(ctx); {
		case o.gaveUp != nil:
			o.gaveUp(err)
		case err != nil:
			t.Error(err)
		}
	})
	return h
}

// close ends everything and waits for it: a goroutine that stays fails the
// bubble.
func (h *house) close() {
	h.stop()
	h.mu.Lock()
	for _, c := range h.targets {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *house) dial(t *testing.T) *session.Session {
	t.Helper()
	conn, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22")
	if err != nil {
		t.Fatal(err)
	}
	s, ok := conn.(*session.Session)
	if !ok {
		t.Fatalf("%T", conn)
	}
	return s
}

// setListener lets the proxy come by another listener of the relay's.
func (h *house) setListener(ln *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ln = ln
}

// cut resets the link there is.
func (h *house) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uplink.Cut()
}

// comesFrom is a connection with another address of its peer.
type comesFrom struct {
	*simnet.Conn
	addr net.Addr
}

func (c comesFrom) RemoteAddr() net.Addr { return c.addr }

// listener hands out connections that are put into it.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
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

func roundTrip(t *testing.T, c io.ReadWriter, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(s))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != s {
		t.Fatalf("%q, %v", got, err)
	}
}
