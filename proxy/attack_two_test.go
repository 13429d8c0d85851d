package proxy_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// street is a relay and several proxies.
type street struct {
	ln   *listener
	shut atomic.Bool // the relay authorizes nobody
	stop context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	far  []*simnet.Conn
	hits hits
}

// neighbour is one proxy.
type neighbour struct {
	*client.Client
	stop  context.CancelFunc
	down  atomic.Bool
	mu    sync.Mutex
	path  *simnet.Conn
	ended chan struct{}
	err   error
}

func newStreet(t *testing.T, window time.Duration, limits relay.Limits, target func(*simnet.Conn)) *street {
	t.Helper()
	s := &street{ln: newListener()}
	relayKey, _ := keys()
	policy, err := relay.ParsePolicy([]string{"10.0.0.0/8:*"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: relayKey, Verifier: &keyauth.Verifier{Authorizer: doorkeeper{&s.shut}}},
		Dialer: &relay.Dialer{
			Policy:         policy,
			InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil },
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := simnet.Pipe(simnet.Line{})
				s.mu.Lock()
				s.far = append(s.far, far)
				s.mu.Unlock()
				s.wg.Go(func() {
					defer far.Close()
					target(far)
				})
				return near, nil
			},
		},
		Window: window, Limits: limits, Trace: &relay.Trace{LimitHit: s.hits.count},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.wg.Go(func() { r.Serve(ctx, s.ln) })
	return s
}

func (s *street) close() {
	s.stop()
	s.mu.Lock()
	for _, c := range s.far {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// move lets another proxy in, with the shared key or one of its own.
func (s *street) move(t *testing.T, ownKey bool, tickets func() []keyauth.Ticket) *neighbour {
	t.Helper()
	relayKey, key := keys()
	if ownKey {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		key = pem.EncodeToMemory(block)
	}
	id := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(id, key, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{ended: make(chan struct{})}
	n.Client, err = client.New(client.Config{
		Tickets: tickets,
		Dialer: &transport.Dialer{
			Relay: "relay.test:7422", Trust: transport.Trust{Pins: []string{relayKey.Fingerprint}},
			Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
			NetDial: func(context.Context, string, string) (net.Conn, error) {
				if n.down.Load() {
					return nil, syscall.ECONNREFUSED
				}
				a, b := simnet.Pipe(defaults)
				select {
				case s.ln.conns <- b:
					n.mu.Lock()
					n.path = a
					n.mu.Unlock()
					return a, nil
				case <-s.ln.closed:
					a.Close()
					b.Close()
					return nil, syscall.ECONNREFUSED
				}
			},
		},
		Trace: &client.Trace{LinkLost: func(*link.LostError) {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	s.wg.Go(func() {
		n.err = n.Run(ctx)
		close(n.ended)
	})
	return n
}

func (n *neighbour) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.path.Cut()
}

// lazy is a ProxyCommand's own link: dialled when it is first asked for.
type lazy struct {
	start func() *neighbour
	n     *neighbour
}

func (l *lazy) get() *neighbour {
	if l.n == nil {
		l.n = l.start()
	}
	return l.n
}
func (l *lazy) Open(ctx context.Context) (*client.Carrier, error)   { return l.get().Open(ctx) }
func (l *lazy) Reopen(ctx context.Context) (*client.Carrier, error) { return l.get().Reopen(ctx) }

func echo(c *simnet.Conn) { io.Copy(c, c); c.CloseWrite() }

// ticketOf is what a ProxyCommand shows for its session.
func ticketOf(s *session.Session) func() []keyauth.Ticket {
	return func() []keyauth.Ticket {
		k := keyauth.Ticket{Kind: wire.TicketSession, ID: s.ID(), Secret: s.Secret()}
		if !k.Valid() {
			return nil
		}
		return []keyauth.Ticket{k}
	}
}

// TestAttackALiveSessionsFirstOwnLinkIsPatient: the daemon ends; while the
// ProxyCommand dials its own link for the first time the relay refuses its key for
// twenty seconds. With a live session that is no reason to give up.
func TestAttackALiveSessionsFirstOwnLinkIsPatient(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		st := newStreet(t, time.Hour, relay.Limits{}, echo)
		daemon := st.move(t, false, nil)
		s := session.Open(session.Config{}, wire.Target{Host: "10.1.2.3", Port: 22})
		own := &lazy{start: func() *neighbour { return st.move(t, false, ticketOf(s)) }}
		owner := client.Owner{Carriers: &client.Either{First: daemon, Then: own}, Relay: "relay.test"}
		life, end := context.WithCancel(context.Background())
		if err := owner.Start(life, life, s, nil); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, "before")
		st.shut.Store(true)
		time.AfterFunc(20*time.Second, func() { st.shut.Store(false) })
		daemon.stop()
		if d, ok := within(t, s, 5*time.Minute); !ok {
			t.Errorf("ended after %v: %v", d, s.Err())
		}
		s.Abort(nil)
		time.Sleep(time.Second)
		end()
		if own.n != nil {
			own.n.stop()
		}
		owner.Wait()
		st.close()
	})
}

// TestAttackADaemonWithAnotherKeyEndsNoSession: the ProxyCommand came first, with
// the agent's key; then a daemon was started, which has no agent and a key file.
// Both are authorized. The ProxyCommand's link is lost.
func TestAttackADaemonWithAnotherKeyEndsNoSession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		st := newStreet(t, time.Hour, relay.Limits{}, echo)
		s := session.Open(session.Config{}, wire.Target{Host: "10.1.2.3", Port: 22})
		own := st.move(t, true, ticketOf(s))
		var daemon atomic.Pointer[neighbour]
		owner := client.Owner{Carriers: &client.Either{First: maybe{&daemon}, Then: own}, Relay: "relay.test"}
		life, end := context.WithCancel(context.Background())
		if err := owner.Start(life, life, s, nil); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, "before")
		daemon.Store(st.move(t, false, nil))
		time.Sleep(10 * time.Second)
		own.cut()
		if d, ok := within(t, s, 5*time.Minute); !ok {
			t.Errorf("ended after %v: %v", d, s.Err())
		}
		s.Abort(nil)
		time.Sleep(time.Second)
		end()
		own.stop()
		daemon.Load().stop()
		owner.Wait()
		st.close()
	})
}

type maybe struct{ p *atomic.Pointer[neighbour] }

var errNone = errors.New("no daemon")

func (m maybe) Open(ctx context.Context) (*client.Carrier, error) {
	if n := m.p.Load(); n != nil {
		return n.Open(ctx)
	}
	return nil, errNone
}

func (m maybe) Reopen(ctx context.Context) (*client.Carrier, error) {
	if n := m.p.Load(); n != nil {
		return n.Reopen(ctx)
	}
	return nil, errNone
}

// TestAttackSmallSleepersGiveWayToo: what a session costs is counted in chunks, and
// who may be evicted by its bytes: so sleepers of a few kilobytes fill a key's
// memory and none of them can go.
func TestAttackSmallSleepersGiveWayToo(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		st := newStreet(t, 24*time.Hour, relay.Limits{Memory: 16 << 20}, func(c *simnet.Conn) { // 4 MiB a key
			buf := make([]byte, 1)
			if _, err := io.ReadFull(c, buf); err != nil || buf[0] == 'x' {
				return
			}
			time.Sleep(time.Minute)
			c.Write(make([]byte, 3000)) // "Message from root: reboot at noon", and so on
			io.Copy(io.Discard, c)
		})
		away := st.move(t, false, nil)
		for i := range 120 {
			conn, err := away.DialContext(t.Context(), "tcp", "10.1.2.3:22")
			if err != nil {
				t.Fatal(i, err)
			}
			io.WriteString(conn, "hello")
		}
		time.Sleep(10 * time.Second)
		away.down.Store(true)
		away.mu.Lock()
		away.path.Hole(true) // the lid is closed; the relay learns of it later
		away.mu.Unlock()
		time.Sleep(time.Hour)
		here := st.move(t, false, nil)
		opened := 0
		var last error
		for range 20 {
			conn, err := here.DialContext(t.Context(), "tcp", "10.1.2.3:22")
			if err != nil {
				last = err
			} else {
				opened++
				io.WriteString(conn, "x")
				conn.Close()
			}
			time.Sleep(time.Minute)
		}
		if opened < 20 {
			t.Errorf("%d of 20 sessions opened beside 120 sleepers with 3000 bytes each in 4 MiB: %v", opened, last)
		}
		away.stop()
		here.stop()
		st.close()
	})
}
