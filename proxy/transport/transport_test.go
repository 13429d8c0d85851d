package transport

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const relayName = "relay.test:7422"

// everyone authorizes every key, noone none.
type everyone bool

func (e everyone) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, bool(e)
}

// ground is a relay and a proxy that can meet.
type ground struct {
	server Server
	dialer Dialer
	known  string
	line   simnet.Line
	admit  func(keyauth.Identity) (*wire.Welcome, *wire.Denied)

	wg        sync.WaitGroup
	serverErr error
	serverEnd *Conn
	recorded  int
}

func newGround(t *testing.T) *ground {
	t.Helper()
	key, err := NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	ids := identities(t)
	g := &ground{known: filepath.Join(t.TempDir(), "dir", "known_relays")}
	g.server = Server{
		Key:      key,
		Verifier: &keyauth.Verifier{Authorizer: everyone(true)},
		Hello:    wire.Hello{Instance: wire.ID{7}, Agent: "test-relay"},
	}
	g.dialer = Dialer{
		Relay:      relayName,
		Trust:      Trust{Known: &KnownRelays{Path: g.known}},
		Identities: func(context.Context) (*keyauth.Identities, error) { return ids, nil },
		Agent:      "test-proxy",
		Recorded:   func(string, string, string) { g.recorded++ },
		NetDial:    g.meet,
	}
	return g
}

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
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := keyauth.Load(t.Context(), keyauth.Sources{List: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// meet is the proxy's NetDial: it lets the relay serve the other end.
func (g *ground) meet(context.Context, string, string) (net.Conn, error) {
	a, b := simnet.Pipe(g.line)
	g.wg.Go(func() { g.serverEnd, g.serverErr = g.server.Handshake(context.Background(), b, Door{Admit: g.admit}) })
	return a, nil
}

// dial dials once, waits for both ends and closes them.
func (g *ground) dial(t *testing.T) (*Conn, error) {
	t.Helper()
	c, err := g.dialer.Dial(t.Context())
	g.wg.Wait()
	if err == nil {
		c.Close()
	}
	if g.serverEnd != nil {
		g.serverEnd.Close()
	}
	return c, err
}

func TestHandshakeAuthenticatesBothWays(t *testing.T) {
	g := newGround(t)
	c, err := g.dial(t)
	if err != nil || g.serverErr != nil {
		t.Fatalf("%v, %v", err, g.serverErr)
	}
	if c.Fingerprint != g.server.Key.Fingerprint || c.Version != 1 || c.Peer.Agent != "test-relay" || c.Peer.Instance != (wire.ID{7}) {
		t.Errorf("proxy's end: %+v", c.Peer)
	}
	if c.Ticket.Valid() {
		t.Error("a ticket that the relay did not hand out")
	}
	s := g.serverEnd
	if s.Identity.Fingerprint == "" || s.Peer.Agent != "test-proxy" {
		t.Errorf("relay's end: %+v", s.Peer)
	}
}

func TestNewRelayIsRecordedOnceAndOnlyAfterItLetUsIn(t *testing.T) {
	g := newGround(t)
	g.server.Verifier.Authorizer = everyone(false)
	_, err := g.dial(t)
	var denied *keyauth.DeniedError
	if !errors.As(err, &denied) || denied.Code != wire.CodeNotAllowed {
		t.Fatalf("%v", err)
	}
	var verify *keyauth.VerifyError
	if !errors.As(g.serverErr, &verify) || verify.Reason != keyauth.ReasonNoKey {
		t.Errorf("%v", g.serverErr)
	}
	if _, err := os.Stat(g.known); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("recorded a relay that refused us")
	}
	g.server.Verifier.Authorizer = everyone(true)
	for range 2 {
		if _, err := g.dial(t); err != nil {
			t.Fatal(err)
		}
	}
	data, _ := os.ReadFile(g.known)
	if want := relayName + " " + g.server.Key.Fingerprint + "\n"; string(data) != want || g.recorded != 1 {
		t.Errorf("recorded %d times: %q", g.recorded, data)
	}
}

func TestTrust(t *testing.T) {
	g := newGround(t)
	own := g.server.Key.Fingerprint
	other := "SHA256:" + strings.Repeat("A", 43)
	for _, tt := range []struct {
		name  string
		trust Trust
		known string
		want  string // of the error; empty: trusted
	}{
		{"pinned", Trust{Pins: []string{own}}, relayName + " " + other, ""},
		{"pinned for rotation", Trust{Pins: []string{other, own}}, "", ""},
		{"pinned to another", Trust{Pins: []string{other}}, relayName + " " + own, "the configuration wants " + other},
		{"strict and known", Trust{Strict: true}, "# mine\n\n" + relayName + " " + own + " # since May\n", ""},
		{"strict and unknown", Trust{Strict: true}, "other.test:7422 " + own + "\n", "is not known and trust is strict"},
		{"changed", Trust{}, "x.test:1 " + own + "\n" + relayName + " " + other + "\n", "known_relays:2 has " + other},
		{"known by the second line", Trust{}, relayName + " " + other + "\n" + relayName + " " + own + "\n", ""},
		{"case of the name", Trust{Strict: true}, "RELAY.test:7422 " + own, ""},
		{"damaged file", Trust{}, "relay.test:7422\n", "known_relays:1: want HOST:PORT SHA256:…"},
		{"damaged fingerprint", Trust{}, relayName + " SHA256:abc\n", `known_relays:1: "SHA256:abc" is not a fingerprint`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			known := filepath.Join(t.TempDir(), "known_relays")
			if err := os.WriteFile(known, []byte(tt.known), 0o600); err != nil {
				t.Fatal(err)
			}
			tt.trust.Known = &KnownRelays{Path: known}
			g.dialer.Trust = tt.trust
			_, err := g.dial(t)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if data, _ := os.ReadFile(known); string(data) != tt.known {
				t.Errorf("file changed: %q", data)
			}
			var retry *DialError
			if tt.want != "" && tt.name != "damaged file" && tt.name != "damaged fingerprint" && errors.As(err, &retry) {
				t.Error("a wrong key is not worth a retry")
			}
		})
	}
}

// TestNothingIsSignedForAWrongKey: not even the public keys are shown.
func TestNothingIsSignedForAWrongKey(t *testing.T) {
	g := newGround(t)
	g.dialer.Trust = Trust{Pins: []string{"SHA256:" + strings.Repeat("A", 43)}}
	if _, err := g.dial(t); err == nil {
		t.Fatal("trusted")
	}
	if g.serverErr == nil || !strings.HasPrefix(g.serverErr.Error(), "tls:") {
		t.Errorf("the relay got beyond TLS: %v", g.serverErr)
	}
}

// TestTheBindingNamesTheRelay: over the same connection another relay's key makes
// another binding, which is the documented one.
func TestTheBindingNamesTheRelay(t *testing.T) {
	g := newGround(t)
	c, err := g.dialer.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.wg.Wait()
	defer g.serverEnd.Close()
	defer c.Close()
	state := c.ConnectionState()
	other, err := NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	var exporters [][32]byte
	for _, cert := range []*x509.Certificate{state.PeerCertificates[0], other.cert.Leaf} {
		b, err := binding(&state, cert)
		if err != nil {
			t.Fatal(err)
		}
		spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		want, err := state.ExportKeyingMaterial("EXPORTER-sshka-proxy-auth-v1", spki[:], 32)
		if err != nil || b.Relay != spki || !bytes.Equal(b.Exporter[:], want) {
			t.Errorf("%+v, want %x: %v", b, want, err)
		}
		exporters = append(exporters, b.Exporter)
	}
	if exporters[0] == exporters[1] {
		t.Error("a proof for one relay is good for another")
	}
}

func TestOtherServersAreNotRelays(t *testing.T) {
	key, err := NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	serve := map[string]func(c net.Conn){
		"web server": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n")
		},
		"ssh server": func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") },
		"tls without alpn": func(c net.Conn) {
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{key.cert}}).Handshake()
		},
		"tls with another alpn": func(c net.Conn) {
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{key.cert}, NextProtos: []string{"h2"}}).Handshake()
		},
		"old tls": func(c net.Conn) {
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{key.cert}, MaxVersion: tls.VersionTLS12}).Handshake()
		},
	}
	for name, serve := range serve {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			g.dialer.NetDial = func(context.Context, string, string) (net.Conn, error) {
				a, b := simnet.Pipe(simnet.Line{})
				g.wg.Go(func() {
					serve(b)
					io.Copy(io.Discard, b)
					b.Close()
				})
				return a, nil
			}
			_, err := g.dial(t)
			var retry *DialError
			if !errors.Is(err, ErrNotRelay) || !errors.As(err, &retry) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(g.known); !errors.Is(err, fs.ErrNotExist) {
				t.Error("recorded")
			}
		})
	}
}

func TestSilentRelayIsGivenUpInTime(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		g := newGround(t)
		var far *simnet.Conn
		g.dialer.NetDial = func(context.Context, string, string) (net.Conn, error) {
			var a *simnet.Conn
			a, far = simnet.Pipe(simnet.Line{})
			return a, nil
		}
		start := time.Now()
		_, err := g.dialer.Dial(t.Context())
		var retry *DialError
		if !errors.As(err, &retry) || time.Since(start) != DefaultHandshakeTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		far.Close()
	})
}

func TestContextEndsDial(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		g := newGround(t)
		var far *simnet.Conn
		g.dialer.NetDial = func(context.Context, string, string) (net.Conn, error) {
			var a *simnet.Conn
			a, far = simnet.Pipe(simnet.Line{})
			return a, nil
		}
		gone := errors.New("ssh gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		start := time.Now()
		if _, err := g.dialer.Dial(ctx); !errors.Is(err, gone) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		far.Close()
	})
}

func TestNoCommonVersion(t *testing.T) {
	own := &wire.Hello{MinVersion: 1, MaxVersion: 1}
	if _, err := checkHello(own, &wire.Hello{MinVersion: 2, MaxVersion: 3, Agent: "new\x1b"}); !errors.Is(err, ErrVersion) ||
		strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%v", err)
	}
	if v, err := checkHello(own, &wire.Hello{MinVersion: 1, MaxVersion: 9}); v != 1 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

func TestRelayKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "relay_key")
	key, made, err := LoadOrMakeRelayKey(path)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if info, _ := os.Stat(filepath.Dir(path)); info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v", info.Mode())
	}
	again, made, err := LoadOrMakeRelayKey(path)
	if err != nil || made || again.Fingerprint != key.Fingerprint || ParseFingerprint(key.Fingerprint) != nil {
		t.Errorf("%v %v %s %s", made, err, again.Fingerprint, key.Fingerprint)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRelayKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path+"2", []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrMakeRelayKey(path + "2"); err == nil || !strings.Contains(err.Error(), "not a PEM private key") {
		t.Errorf("%v", err)
	}
}

func TestTwoProcessesMakeOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay_key")
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 20 {
		wg.Go(func() {
			key, _, err := LoadOrMakeRelayKey(path)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			seen[key.Fingerprint]++
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%v", seen)
	}
}

func TestKnownRelaysAppendIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_relays")
	fp := "SHA256:" + strings.Repeat("A", 43)
	if err := os.WriteFile(path, []byte("first:1 "+fp), 0o600); err != nil { // no newline
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			k := &KnownRelays{Path: path}
			if err := k.Add(string(rune('a'+i%5))+":22", fp); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 6 {
		t.Errorf("%q", data)
	}
	for _, relay := range []string{"first:1", "a:22", "e:22"} {
		if pins, err := (&KnownRelays{Path: path}).Lookup(relay); len(pins) != 1 || err != nil {
			t.Errorf("%s: %v, %v", relay, pins, err)
		}
	}
}

// FuzzKnownRelays: a line is refused, ignored, or means what it says.
func FuzzKnownRelays(f *testing.F) {
	fp := "SHA256:" + strings.Repeat("A", 43)
	for _, s := range []string{"", "# c", "relay:7422 " + fp, "relay:7422 " + fp + " # c", "relay " + fp, "[::1]:7422 " + fp} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		pin, err := parseKnown(line)
		if err != nil || pin == nil {
			return
		}
		again, err := parseKnown(pin.Relay + " " + pin.Fingerprint)
		if err != nil || *again != *pin {
			t.Errorf("%q: %+v, %v", line, again, err)
		}
	})
}

// withTickets lets the ground's relay hand out one ticket per link and know those
// in the map.
func (g *ground) withTickets(known map[wire.ID]wire.Secret) {
	g.server.Verifier.Ticket = func(_ wire.TicketKind, id wire.ID, _ netip.Addr) (wire.Secret, keyauth.Identity, bool) {
		secret, ok := known[id]
		return secret, keyauth.Identity{Fingerprint: "by ticket"}, ok
	}
	g.admit = func(keyauth.Identity) (*wire.Welcome, *wire.Denied) {
		w := keyauth.NewWelcome()
		known[w.TicketID] = w.Secret
		return w, nil
	}
}

func TestATicketSparesTheKeys(t *testing.T) {
	g := newGround(t)
	g.withTickets(map[wire.ID]wire.Secret{})
	c, err := g.dial(t)
	if err != nil || !c.Ticket.Valid() {
		t.Fatalf("%v, %+v", err, c)
	}
	load := g.dialer.Identities
	g.dialer.Identities = func(context.Context) (*keyauth.Identities, error) {
		t.Error("keys were asked for")
		return load(t.Context())
	}
	forged := c.Ticket
	forged.ID[0]++
	wrong := c.Ticket
	wrong.Secret[0]++
	// The relay knows the third.
	g.dialer.Tickets = []keyauth.Ticket{forged, wrong, c.Ticket}
	next, err := g.dial(t)
	if err != nil || g.serverEnd.Identity.Fingerprint != "by ticket" || g.serverEnd.Identity.TicketID != c.Ticket.ID {
		t.Fatalf("%v, %+v", err, g.serverEnd)
	}
	if next.Ticket == c.Ticket || !next.Ticket.Valid() {
		t.Error("no fresh ticket")
	}

	asked := 0
	g.dialer.Identities = func(ctx context.Context) (*keyauth.Identities, error) {
		asked++
		return load(ctx)
	}
	g.dialer.Tickets = []keyauth.Ticket{forged, wrong, forged, wrong}
	if _, err := g.dial(t); err != nil || asked != 1 || g.serverEnd.Identity.Fingerprint == "by ticket" {
		t.Errorf("%v; keys asked for %d times", err, asked)
	}
}

func TestAFullRelaySaysSoBeforeItsWelcome(t *testing.T) {
	g := newGround(t)
	g.admit = func(keyauth.Identity) (*wire.Welcome, *wire.Denied) {
		return nil, &wire.Denied{Code: wire.CodeBusy, RetryAfter: time.Second, Message: "full"}
	}
	_, err := g.dial(t)
	var denied *keyauth.DeniedError
	var retry *DialError
	if !errors.As(err, &denied) || denied.RetryAfter != time.Second || !errors.As(err, &retry) {
		t.Errorf("%v", err)
	}
	var verify *keyauth.VerifyError
	if !errors.As(g.serverErr, &verify) || verify.Reason != keyauth.ReasonBusy {
		t.Errorf("%v", g.serverErr)
	}
	if _, err := os.Stat(g.known); !errors.Is(err, fs.ErrNotExist) {
		t.Error("recorded a relay that did not let us in")
	}
}

// TestTheLastAddressStandsInForTheName: where a resolver says no, and where it
// says nothing.
func TestTheLastAddressStandsInForTheName(t *testing.T) {
	const last = "192.0.2.7:7422"
	for name, resolver := range map[string]func(context.Context) error{
		"fails":  func(context.Context) error { return &net.OpError{Err: &net.DNSError{Err: "server misbehaving"}} },
		"silent": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				g := newGround(t)
				g.dialer.NetDial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if address != last {
						return nil, resolver(ctx)
					}
					return g.meet(ctx, network, address)
				}
				if _, err := g.dial(t); err == nil {
					t.Fatal("reached without a name")
				}
				g.dialer.LastAddr = last
				start := time.Now()
				if _, err := g.dial(t); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d > lookupPatience {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

// TestARefusalByNameIsBelieved: the last address is one of the name's.
func TestARefusalByNameIsBelieved(t *testing.T) {
	g := newGround(t)
	g.dialer.LastAddr = "192.0.2.7:7422"
	g.dialer.NetDial = func(_ context.Context, _, address string) (net.Conn, error) {
		if address != relayName {
			t.Errorf("%s was dialled", address)
		}
		return nil, syscall.ECONNREFUSED
	}
	if _, err := g.dialer.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
}
