package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

type everybody struct{}

func (everybody) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, true
}

// running serves on real listeners until the test ends.
func running(t *testing.T, listeners ...net.Listener) *Relay {
	t.Helper()
	key, err := transport.NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{
		Transport: &transport.Server{Key: key, Verifier: &keyauth.Verifier{Authorizer: everybody{}}},
		Dialer:    &Dialer{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Serve(ctx, listeners...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// greets reports whether a relay answers there: TLS to its end.
func greets(t *testing.T, ln net.Listener) bool {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"sshka/1"}}}
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestTheWatchdogsQuestionDisturbsNobody(t *testing.T) {
	a, b := listenLoopback(t), listenLoopback(t)
	r := running(t, a, b)
	for range 100 {
		if err := r.Alive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !greets(t, a) || !greets(t, b) {
		t.Error("a listener does not accept any more")
	}
}

// hanging is a listener whose Accept has got stuck.
type hanging struct {
	*net.TCPListener
	stuck chan struct{}
}

func (h hanging) Accept() (net.Conn, error) {
	<-h.stuck
	return h.TCPListener.Accept()
}

func TestARelayThatIsStuckIsNotAlive(t *testing.T) {
	tcp, ok := listenLoopback(t).(*net.TCPListener)
	if !ok {
		t.Fatal("no TCP")
	}
	stuck := make(chan struct{})
	r := running(t, listenLoopback(t), hanging{tcp, stuck})
	defer close(stuck)
	for name, f := range map[string]func(ctx context.Context) error{
		"an accept loop": r.Alive,
		"a lock": func(ctx context.Context) error {
			r.held.mu.Lock()
			done := make(chan error, 1)
			go func() { done <- r.Alive(ctx) }()
			<-ctx.Done()
			select {
			case <-done:
				t.Error("it answered while the table was locked")
			default:
			}
			r.held.mu.Unlock()
			return <-done
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := f(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestAListenerThatStaysIsNotTouched(t *testing.T) {
	stays, goes, comes := listenLoopback(t), listenLoopback(t), listenLoopback(t)
	r := running(t, stays, goes)
	if err := r.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Relisten(stays, comes); err != nil {
		t.Fatal(err)
	}
	if err := r.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !greets(t, stays) || !greets(t, comes) {
		t.Error("one of those that were given does not accept")
	}
	for deadline := time.Now().Add(10 * time.Second); greets(t, goes); {
		if time.Now().After(deadline) {
			t.Fatal("the one that is gone accepts")
		}
	}
}

func TestLimitsThatChangeLeaveThoseInside(t *testing.T) {
	l := Limits{Links: 1, LinksPerKey: 1, DialsPerKey: 1, Handshakes: 1}.withDefaults()
	g := newGates(l, func(Limit) {})
	if !g.links.enter(false) || g.links.enter(false) {
		t.Error("not one link")
	}
	k := g.keys.enter("a", false)
	before := g.keys.dials(k)
	if !before.enter() || before.enter() {
		t.Error("not one dial")
	}
	l.Links, l.LinksPerKey, l.DialsPerKey = 2, 2, 2
	g.resize(l)
	if !g.links.enter(false) || g.keys.enter("a", false) != k || g.keys.enter("a", false) != nil {
		t.Error("not two links")
	}
	after := g.keys.dials(k)
	for i := range 3 {
		if in := after.enter(); in != (i < 2) {
			t.Errorf("dial %d: %v", i, in)
		}
	}
	before.leave() // of the gate that it came by
	if after.enter() {
		t.Error("a third dial")
	}
	tb := newTable(64<<20, func(Limit) {})
	tb.resize(8 << 20)
	if tb.memory.Limit() != 8<<20 {
		t.Errorf("memory %d", tb.memory.Limit())
	}
}
