package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// A peer of another version, by hand: what it says beyond this version must do no
// harm (docs/protocol.md §9).

// tomorrow is a HELLO that speaks versions least to 9, has features and a field
// that nobody knows yet, and is followed by a message to be skipped.
func tomorrow(least uint16) []byte {
	b := wire.Append(nil, &wire.Hello{MinVersion: least, MaxVersion: 9, Features: ^wire.Features(0), Agent: "tomorrow"})
	b = append(b, "more"...)
	b[3] += 4 // of the body's length
	return append(b, 0x91, 0, 0, 3, 1, 2, 3)
}

func TestTomorrowsProxyMeetsTodaysRelay(t *testing.T) {
	for name, tt := range map[string]struct {
		least  uint16
		denied wire.Code
	}{
		"speaks ours, too":  {1, 0},
		"does not any more": {2, wire.CodeVersion},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			conn, _ := g.meet(t.Context(), "tcp", relayName)
			ids := identities(t)
			var leaf *x509.Certificate
			c := tls.Client(conn, &tls.Config{
				NextProtos: []string{wire.ALPN}, InsecureSkipVerify: true,
				VerifyConnection: func(s tls.ConnectionState) error { leaf = s.PeerCertificates[0]; return nil },
			})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			state := c.ConnectionState()
			b, err := binding(&state, leaf)
			if err != nil {
				t.Fatal(err)
			}
			c.Write(append(tomorrow(tt.least), wire.Append(nil, ids.Offer())...))
			var hello wire.Hello
			if err := readHello(c, &hello); err != nil || hello.MaxVersion != wire.MaxVersion {
				t.Fatalf("%+v, %v", hello, err)
			}
			_, err = keyauth.ProveOffered(t.Context(), c, b, ids, keyauth.Witness{})
			var denied *keyauth.DeniedError
			if errors.As(err, &denied) != (tt.denied != 0) || denied != nil && denied.Code != tt.denied {
				t.Errorf("%v", err)
			}
			c.Close()
			g.wg.Wait()
			if tt.denied != 0 {
				if !errors.Is(g.serverErr, ErrVersion) {
					t.Errorf("%v", g.serverErr)
				}
			} else if g.serverErr != nil || g.serverEnd.Version != 1 {
				t.Errorf("%v, %+v", g.serverErr, g.serverEnd)
			}
		})
	}
}

func TestTodaysProxyMeetsTomorrowsRelay(t *testing.T) {
	for name, tt := range map[string]struct {
		least uint16
		want  error
	}{
		"speaks ours, too":  {1, nil},
		"does not any more": {2, ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			key := g.server.Key
			g.dialer.NetDial = func(context.Context, string, string) (net.Conn, error) {
				a, b := simnet.Pipe(simnet.Line{})
				g.wg.Go(func() {
					defer b.Close()
					c := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{key.cert}, NextProtos: []string{wire.ALPN}})
					if _, err := wire.ReadHandshake(c); err != nil {
						t.Error(err)
						return
					}
					c.Write(tomorrow(tt.least))
					state := c.ConnectionState()
					bound, err := binding(&state, key.cert.Leaf)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := g.server.Verifier.Verify(c, keyauth.Peer{Binding: bound}); err == nil {
						c.Write(wire.Append(nil, &wire.Welcome{}))
					}
					io.Copy(io.Discard, c)
				})
				return a, nil
			}
			c, err := g.dialer.Dial(t.Context())
			if err == nil {
				c.Close()
			}
			g.wg.Wait()
			if !errors.Is(err, tt.want) || err == nil && (c.Version != 1 || c.Peer.Agent != "tomorrow") {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}
