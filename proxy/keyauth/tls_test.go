package keyauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// relayCert is a relay's own key, new for every call.
func relayCert(t *testing.T) tls.Certificate {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}
}

// ends are the two ends of one TLS connection, each with what it knows of it.
type ends struct {
	proxy, relay           *tls.Conn
	proxyBinds, relayBinds Binding
}

// connect joins a proxy and a relay that has cert by TLS 1.3.
func connect(t *testing.T, cert tls.Certificate) ends {
	t.Helper()
	a, b := net.Pipe()
	e := ends{
		proxy: tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}),
		relay: tls.Server(b, &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		}),
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	done := make(chan error, 1)
	go func() { done <- e.relay.Handshake() }()
	must(t, e.proxy.Handshake())
	must(t, <-done)

	e.proxyBinds = binding(t, e.proxy, e.proxy.ConnectionState().PeerCertificates[0])
	own, err := x509.ParseCertificate(cert.Certificate[0])
	must(t, err)
	e.relayBinds = binding(t, e.relay, own)
	return e
}

func binding(t *testing.T, c *tls.Conn, relay *x509.Certificate) Binding {
	t.Helper()
	b := Binding{Relay: sha256.Sum256(relay.RawSubjectPublicKeyInfo)}
	cs := c.ConnectionState()
	exported, err := cs.ExportKeyingMaterial(ExporterLabel, b.Relay[:], 32)
	must(t, err)
	b.Exporter = [32]byte(exported)
	return b
}

// outcome is how a handshake went, on both sides.
type outcome struct {
	welcome  *wire.Welcome
	proveErr error
	sent     *wire.Welcome
	who      Identity
	verErr   error
}

var addr = netip.MustParseAddr("192.0.2.7")

// handshake lets a proxy with ids prove itself to v over e.
func handshake(t *testing.T, e ends, ids *Identities, v *Verifier) (o outcome) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		o.who, o.verErr = v.Verify(e.relay, Peer{Binding: e.relayBinds, Addr: addr})
		if o.verErr == nil {
			o.sent = NewWelcome()
			_ = write(e.relay, o.sent)
		}
		_ = e.relay.CloseWrite()
	})
	o.welcome, o.proveErr = Prove(context.Background(), e.proxy, e.proxyBinds, ids)
	e.proxy.NetConn().Close()
	wg.Wait()
	return o
}

// accepts authorizes the keys in it.
type accepts map[string]bool

func accept(keys ...ssh.PublicKey) accepts {
	a := accepts{}
	for _, k := range keys {
		a[string(k.Marshal())] = true
	}
	return a
}

func (a accepts) Authorize(key ssh.PublicKey, _ netip.Addr) (Grant, bool) {
	return Grant{File: "list", Line: 1}, a[string(key.Marshal())]
}

// kinds are the types of keys that a file can hold.
var kinds = []string{"ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa"}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		panic(err)
	}
	return k
})

// generate makes a key of one of kinds. There is only one of rsa.
func generate(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	curves := map[string]elliptic.Curve{"ecdsa256": elliptic.P256(), "ecdsa384": elliptic.P384(), "ecdsa521": elliptic.P521()}
	switch kind {
	case "ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		return k
	case "rsa":
		return rsaKey()
	}
	k, err := ecdsa.GenerateKey(curves[kind], rand.Reader)
	must(t, err)
	return k
}

func public(t *testing.T, k crypto.Signer) ssh.PublicKey {
	t.Helper()
	pub, err := ssh.NewPublicKey(k.Public())
	must(t, err)
	return pub
}

// privateDir is a directory that only its owner may write, whatever the umask.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.Chmod(dir, 0o700))
	return dir
}

// writeKey writes k as a private key file, encrypted if there is a passphrase,
// and returns its path.
func writeKey(t *testing.T, k crypto.Signer, passphrase string) string {
	t.Helper()
	path := filepath.Join(privateDir(t), "id")
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(k, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(k, "", []byte(passphrase))
	}
	must(t, err)
	writeFile(t, path, string(pem.EncodeToMemory(block)), 0o600)
	return path
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
}

// serveAgent serves a at a socket until the test ends.
func serveAgent(t *testing.T, a agent.Agent) (socket string) {
	t.Helper()
	return listenAgent(t, func(c net.Conn) { _ = agent.ServeAgent(a, c) })
}

// listenAgent handles every connection to a socket until the test ends.
func listenAgent(t *testing.T, handle func(net.Conn)) (socket string) {
	t.Helper()
	// A socket's path must be short, t.TempDir's is not.
	dir, err := os.MkdirTemp("", "agent")
	must(t, err)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait(); os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func keyring(t *testing.T, keys ...crypto.Signer) agent.ExtendedAgent {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		must(t, ring.Add(agent.AddedKey{PrivateKey: k, Comment: "from the ring"}))
	}
	return ring.(agent.ExtendedAgent)
}

func load(t *testing.T, s Sources) *Identities {
	t.Helper()
	ids, err := Load(context.Background(), s)
	must(t, err)
	return ids
}

func loadFile(t *testing.T, k crypto.Signer) *Identities {
	t.Helper()
	return load(t, Sources{List: []string{writeKey(t, k, "")}, Explicit: true})
}

// script is a peer that says said and keeps what it is told.
type script struct {
	io.Reader
	heard []byte
}

func (s *script) Write(b []byte) (int, error) {
	s.heard = append(s.heard, b...)
	return len(b), nil
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
