package proxy_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// path is the whole way over loopback: client, link, relay, target.
type path struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	echo string // a target that echoes
	sink string // a target that swallows, and answers one byte at the end
	pour string // a target that sends until it is closed
}

func newPath(b testing.TB) *path {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	listen := func(serve func(c *net.TCPConn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					serve(c.(*net.TCPConn))
				})
			}
		})
		return ln.Addr().String()
	}
	p := &path{
		echo: listen(func(c *net.TCPConn) { io.Copy(c, c) }),
		sink: listen(func(c *net.TCPConn) {
			io.Copy(io.Discard, c)
			c.Write([]byte{1})
		}),
		pour: listen(func(c *net.TCPConn) {
			buf := make([]byte, 256<<10)
			for {
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		}),
	}
	key, err := transport.NewRelayKey()
	if err != nil {
		b.Fatal(err)
	}
	identity, public, err := keyauth.Ephemeral()
	if err != nil {
		b.Fatal(err)
	}
	policy, err := relay.ParsePolicy([]string{"localhost:*"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: key, Verifier: &keyauth.Verifier{Authorizer: only{public}}},
		Dialer:    &relay.Dialer{Policy: policy},
		Limits:    relay.Limits{OpensPerSecond: 1_000_000}, // it is not the limit that BenchmarkOpen measures
	})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	wg.Go(func() { r.Serve(ctx, ln) })
	c, err := client.New(client.Config{Dialer: &transport.Dialer{
		Relay:      ln.Addr().String(),
		Trust:      transport.Trust{Pins: []string{key.Fingerprint}},
		Identities: func(context.Context) (*keyauth.Identities, error) { return identity, nil },
	}})
	if err != nil {
		b.Fatal(err)
	}
	wg.Go(func() { c.Run(ctx) })
	p.dial = c.DialContext
	b.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return p
}

// direct is the same without a proxy, to compare with.
func (p *path) direct() *path {
	var d net.Dialer
	return &path{dial: d.DialContext, echo: p.echo, sink: p.sink, pour: p.pour}
}

func (p *path) open(b testing.TB, address string) net.Conn {
	b.Helper()
	c, err := p.dial(b.Context(), "tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkThroughput is one session's bulk, client to target.
func BenchmarkThroughput(b *testing.B) {
	through := newPath(b)
	for name, p := range map[string]*path{"direct": through.direct(), "through": through} {
		b.Run(name, func(b *testing.B) {
			c := p.open(b, p.sink)
			defer c.Close()
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			c.(interface{ CloseWrite() error }).CloseWrite()
			if _, err := io.ReadFull(c, buf[:1]); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkDownload is one session's bulk, target to client.
func BenchmarkDownload(b *testing.B) {
	through := newPath(b)
	for name, p := range map[string]*path{"direct": through.direct(), "through": through} {
		b.Run(name, func(b *testing.B) {
			c := p.open(b, p.pour)
			defer c.Close()
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEcho is a keystroke's way there and back on an idle link.
func BenchmarkEcho(b *testing.B) {
	through := newPath(b)
	for name, p := range map[string]*path{"direct": through.direct(), "through": through} {
		b.Run(name, func(b *testing.B) {
			c := p.open(b, p.echo)
			defer c.Close()
			var key [1]byte
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(key[:]); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, key[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen is a new session on a warm link, to its first byte back.
func BenchmarkOpen(b *testing.B) {
	through := newPath(b)
	for name, p := range map[string]*path{"direct": through.direct(), "through": through} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := p.open(b, p.echo)
				c.Write([]byte{1})
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
