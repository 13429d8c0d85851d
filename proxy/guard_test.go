package proxy_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// The guard notices when the whole path has become much slower or hungrier: make
// bench-guard. It compares with TCP and with crypto/tls alone, between the same sockets of
// the same process, in turns; of each the best of all turns counts, since what else the
// machine does can only make a turn worse.
//
// The margins are for a halving, not for a tenth. Behind each stands what a dozen runs have
// shown on two processors, some of them idle, some beside other work, some with two programs
// that took all they got. The best of so many turns hardly moves; a half of it, or double, is
// beyond every bound.
const (
	guardRounds = 16
	guardBytes  = 48 << 20
	guardEchoes = 2000

	leastUp      = 0.25 // of the rate of TLS: 0.36 to 0.56, most often 0.41
	leastDown    = 0.24 // 0.36 to 0.60, most often 0.39
	mostEcho     = 7.0  // times the echo of TLS, which has one hop where we have three: 3.6 to 4.4
	mostOfDirect = 9.0  // times the echo of TCP: 4.5 to 5.6
	mostAllocs   = 600  // a MiB, of all in this process, both programs and both ends: 210 to 400
)

// turn is what one way has shown at best.
type turn struct {
	up, down float64       // bytes a second
	echo     time.Duration // mean
	allocs   float64       // a MiB
}

// best takes what is better of another turn.
func (t *turn) best(other turn) {
	if t.echo == 0 {
		*t = other
		return
	}
	t.up, t.down = max(t.up, other.up), max(t.down, other.down)
	t.echo, t.allocs = min(t.echo, other.echo), min(t.allocs, other.allocs)
}

func TestGuard(t *testing.T) {
	if os.Getenv("SSHKA_BENCH_GUARD") == "" {
		t.Skip("the guard of the speed runs with SSHKA_BENCH_GUARD=run (make bench-guard)")
	}
	through := newPath(t)
	direct, secure := through.direct(), through.secure(t)
	var ours, plain, crypt turn
	for range guardRounds {
		plain.best(direct.turn(t))
		crypt.best(secure.turn(t))
		ours.best(through.turn(t))
	}
	const mb = 1e6
	t.Logf("up   %5.0f MB/s, TLS %5.0f, TCP %5.0f", ours.up/mb, crypt.up/mb, plain.up/mb)
	t.Logf("down %5.0f MB/s, TLS %5.0f, TCP %5.0f", ours.down/mb, crypt.down/mb, plain.down/mb)
	t.Logf("echo %s, TLS %s, TCP %s", ours.echo, crypt.echo, plain.echo)
	for _, g := range []struct {
		what       string
		got, bound float64
		least      bool
	}{
		{"bulk up, of the rate of TLS", ours.up / crypt.up, leastUp, true},
		{"bulk down, of the rate of TLS", ours.down / crypt.down, leastDown, true},
		{"echo, times that of TLS", float64(ours.echo) / float64(crypt.echo), mostEcho, false},
		{"echo, times that of TCP", float64(ours.echo) / float64(plain.echo), mostOfDirect, false},
		{"allocations a MiB of bulk", ours.allocs, mostAllocs, false},
	} {
		t.Logf("%-32s %7.2f, bound %.2f", g.what, g.got, g.bound)
		if g.least && g.got < g.bound || !g.least && g.got > g.bound {
			t.Errorf("%s: %.2f, and the bound is %.2f: make bench tells which package it is", g.what, g.got, g.bound)
		}
	}
}

// turn measures p once.
func (p *path) turn(t *testing.T) (got turn) {
	t.Helper()
	buf := make([]byte, 64<<10)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	c := p.open(t, p.sink)
	began := time.Now()
	for range guardBytes / len(buf) {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		t.Fatal(err)
	}
	got.up = guardBytes / time.Since(began).Seconds()
	c.Close()

	c = p.open(t, p.pour)
	began = time.Now()
	for range guardBytes / len(buf) {
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	got.down = guardBytes / time.Since(began).Seconds()
	c.Close()
	runtime.ReadMemStats(&after)
	got.allocs = float64(after.Mallocs-before.Mallocs) / (2 * guardBytes >> 20)

	c = p.open(t, p.echo)
	defer c.Close()
	began = time.Now()
	for range guardEchoes {
		if _, err := c.Write(buf[:64]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:64]); err != nil {
			t.Fatal(err)
		}
	}
	got.echo = time.Since(began) / guardEchoes
	return got
}

// secure is the same over crypto/tls alone: one TLS connection for each session, straight to
// what serves it.
func (p *path) secure(t *testing.T) *path {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	listen := func(serve func(net.Conn)) string {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					serve(c)
				}()
			}
		}()
		return ln.Addr().String()
	}
	// The key was made here, a moment ago.
	dialer := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}
	return &path{
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		echo: listen(func(c net.Conn) { io.Copy(c, c) }),
		sink: listen(func(c net.Conn) {
			io.Copy(io.Discard, c)
			c.Write([]byte{1})
		}),
		pour: listen(func(c net.Conn) {
			buf := make([]byte, 256<<10)
			for {
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		}),
	}
}
