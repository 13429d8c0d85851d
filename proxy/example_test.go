package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Proxy and relay in one process, joined by a loopback connection: the relay lets
// one key in and dials what the policy allows.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	// A target: a server that answers in capitals.
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	running.Go(func() {
		c, err := target.Accept()
		if err != nil {
			return
		}
		said, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(said))
		c.Close()
	})
	defer target.Close()

	// The relay's end.
	key, _ := transport.NewRelayKey()
	identity, public, _ := keyauth.Ephemeral()
	policy, _ := relay.ParsePolicy([]string{"localhost:*"}, nil)
	r, err := relay.New(relay.Config{
		Transport: &transport.Server{Key: key, Verifier: &keyauth.Verifier{Authorizer: only{public}}},
		Dialer:    &relay.Dialer{Policy: policy},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	running.Go(func() { r.Serve(ctx, ln) })

	// The proxy's end.
	c, err := client.New(client.Config{Dialer: &transport.Dialer{
		Relay:      ln.Addr().String(),
		Trust:      transport.Trust{Pins: []string{key.Fingerprint}},
		Identities: func(context.Context) (*keyauth.Identities, error) { return identity, nil },
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	running.Go(func() { c.Run(ctx) })

	// A connection to the target, through the link.
	conn, err := c.DialContext(ctx, "tcp", target.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(conn, "hello")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	answer, err := io.ReadAll(conn)
	fmt.Printf("%s %v\n", answer, err)
	conn.Close()
	// Output: HELLO <nil>
}

// only lets one key in.
type only struct{ key ssh.PublicKey }

func (o only) Authorize(key ssh.PublicKey, _ netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, bytes.Equal(key.Marshal(), o.key.Marshal())
}
