package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// embeddedRelay is a relay inside this process, for trying out: no listener, no
// keys, every target this machine reaches, loopback included.
type embeddedRelay struct {
	relay *relay.Relay
	ln    *pipeListener
}

// embed sets cfg up to reach a new embedded relay, through memory.
func embed(file *config.File, cfg *client.Config, log *slog.Logger) (*embeddedRelay, error) {
	key, err := transport.NewRelayKey()
	if err != nil {
		return nil, err
	}
	ids, public, err := keyauth.Ephemeral()
	if err != nil {
		return nil, err
	}
	rc, err := file.Server(agent(), key, onlyKey{public}, nil)
	if err != nil {
		return nil, err
	}
	rc.Dialer.Policy, err = relay.ParsePolicy([]string{"localhost:*", "*:*", "127.0.0.0/8:*", "[::1]:*"}, nil)
	if err != nil {
		return nil, err
	}
	rc.Log = log
	r, err := relay.New(rc)
	if err != nil {
		return nil, err
	}
	e := &embeddedRelay{relay: r, ln: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	cfg.Dialer.Relay = config.RelayEmbedded
	cfg.Dialer.Trust = transport.Trust{Pins: []string{key.Fingerprint}}
	cfg.Dialer.Identities = func(context.Context) (*keyauth.Identities, error) { return ids, nil }
	cfg.Dialer.NetDial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case e.ln.conns <- far:
			return near, nil
		case <-e.ln.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return e, nil
}

// serve runs the relay until ctx is done.
func (e *embeddedRelay) serve(ctx context.Context) error { return e.relay.Serve(ctx, e.ln) }

// onlyKey authorizes one key.
type onlyKey struct{ key ssh.PublicKey }

func (o onlyKey) Authorize(key ssh.PublicKey, _ netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, bytes.Equal(key.Marshal(), o.key.Marshal())
}

// pipeListener accepts what is handed to it.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Accept waits for the next connection.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr names the listener.
func (l *pipeListener) Addr() net.Addr { return session.Addr(config.RelayEmbedded) }
