package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// trickle writes text again and again, a byte each second, until w is closed, or for
// an hour.
func trickle(w io.Writer, text []byte) {
	for i := range 3600 {
		if _, err := w.Write(text[i%len(text) : i%len(text)+1]); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// long is a frame whose body never ends, at a byte a second.
func long(t wire.Type) []byte {
	return append(wire.AppendHeader(nil, wire.Header{Type: t, Length: wire.MaxHandshake}), 1)
}

// TestATrickleDoesNotExtendTheHandshake: a stranger has so much time in all,
// wherever he stops or begins to dawdle.
func TestATrickleDoesNotExtendTheHandshake(t *testing.T) {
	hello := wire.Append(nil, &wire.Hello{MinVersion: wire.MinVersion, MaxVersion: wire.MaxVersion})
	// A plausible record that holds the start of a long ClientHello.
	clientHello := append([]byte{0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb}, make([]byte, 1<<14)...)
	ids := identities(t)
	offer := wire.Append(nil, ids.Offer())
	beyondTLS := func(f func(c *tls.Conn)) func(net.Conn) {
		return func(raw net.Conn) {
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{wire.ALPN}})
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			f(c)
		}
	}
	for name, c := range map[string]struct {
		say  func(net.Conn)
		most time.Duration
	}{
		"not a byte":          {func(net.Conn) {}, DefaultHandshakeTimeout},
		"half a record":       {func(c net.Conn) { c.Write(clientHello[:3]) }, DefaultHandshakeTimeout},
		"a ClientHello":       {func(c net.Conn) { trickle(c, clientHello) }, DefaultHandshakeTimeout},
		"nothing after TLS":   {beyondTLS(func(*tls.Conn) {}), DefaultHandshakeTimeout},
		"a HELLO":             {beyondTLS(func(c *tls.Conn) { trickle(c, long(wire.TypeHello)) }), DefaultHandshakeTimeout},
		"unknown messages":    {beyondTLS(func(c *tls.Conn) { trickle(c, []byte{0x99, 0, 0, 0}) }), DefaultHandshakeTimeout},
		"nothing after HELLO": {beyondTLS(func(c *tls.Conn) { c.Write(hello) }), DefaultHandshakeTimeout},
		"an OFFER": {beyondTLS(func(c *tls.Conn) {
			c.Write(hello)
			trickle(c, long(wire.TypeOffer))
		}), DefaultHandshakeTimeout},
		"nothing after OFFER": {beyondTLS(func(c *tls.Conn) { c.Write(append(bytes.Clone(hello), offer...)) }), SignatureTimeout},
		"a PROOF": {beyondTLS(func(c *tls.Conn) {
			c.Write(append(bytes.Clone(hello), offer...))
			trickle(c, long(wire.TypeProof))
		}), SignatureTimeout},
		"nothing after it was denied": {beyondTLS(func(c *tls.Conn) {
			c.Write(wire.Append(nil, &wire.Hello{MinVersion: 99, MaxVersion: 99}))
		}), partingTime},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				g := newGround(t)
				a, b := simnet.Pipe(simnet.Line{})
				start := time.Now()
				var took time.Duration
				g.wg.Go(func() {
					_, g.serverErr = g.server.Handshake(context.Background(), b, Door{})
					took = time.Since(start)
				})
				g.wg.Go(func() {
					c.say(a)
					time.Sleep(time.Hour)
					a.Close()
				})
				g.wg.Wait()
				if took != c.most {
					t.Errorf("took %v, want %v: %v", took, c.most, g.serverErr)
				}
			})
		})
	}
}

// TestATricklingRelayIsGivenUpInTime: what answers may be anything.
func TestATricklingRelayIsGivenUpInTime(t *testing.T) {
	hello := wire.Append(nil, &wire.Hello{MinVersion: wire.MinVersion, MaxVersion: wire.MaxVersion})
	for name, say := range map[string]func(c net.Conn, tc *tls.Conn){
		"a ServerHello": func(c net.Conn, _ *tls.Conn) {
			trickle(c, append([]byte{0x16, 3, 3, 0x3f, 0xff, 2, 0, 0x3f, 0xfb}, make([]byte, 1<<14)...))
		},
		"a HELLO": func(_ net.Conn, c *tls.Conn) {
			c.Handshake()
			trickle(c, long(wire.TypeHello))
		},
		"a PICK": func(_ net.Conn, c *tls.Conn) {
			c.Handshake()
			c.Write(hello)
			trickle(c, long(wire.TypeDenied))
		},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				g := newGround(t)
				g.dialer.NetDial = func(context.Context, string, string) (net.Conn, error) {
					a, b := simnet.Pipe(simnet.Line{})
					g.wg.Go(func() {
						say(b, tls.Server(b, &tls.Config{Certificates: []tls.Certificate{g.server.Key.cert}, NextProtos: []string{wire.ALPN}}))
						b.Close()
					})
					return a, nil
				}
				start := time.Now()
				_, err := g.dialer.Dial(t.Context())
				var retry *DialError
				var denied *keyauth.DeniedError
				if !errors.As(err, &retry) || errors.As(err, &denied) || time.Since(start) != DefaultHandshakeTimeout {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				g.wg.Wait()
			})
		})
	}
}
