package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Dialer connects a proxy to its relay.
type Dialer struct {
	// Relay is the relay's address, HOST:PORT, and its name in Trust.Known.
	Relay string
	// Trust is how the relay is known.
	Trust Trust
	// Identities loads the keys to prove, anew for every connection: an agent
	// may have been unlocked meanwhile.
	Identities func(ctx context.Context) (*keyauth.Identities, error)
	// Tickets are shown before any key is asked for, in this order, at most
	// keyauth.MaxTickets of them.
	Tickets []keyauth.Ticket
	// LastAddr is an address where the relay was reached before, HOST:PORT. It is
	// the fallback for when the name cannot be resolved. Empty: none.
	LastAddr string
	// Witness is told of the proof, where a key is asked for one.
	Witness keyauth.Witness
	// Agent is this program's name and version, for the relay's log.
	Agent string
	// NetDial replaces the dialling of TCP, for tests. Nil means a net.Dialer,
	// which tries all addresses of the name, both families (RFC 8305).
	NetDial func(ctx context.Context, network, address string) (net.Conn, error)
	// ConnectTimeout bounds TCP, HandshakeTimeout TLS and HELLO. Zero means the
	// defaults.
	ConnectTimeout, HandshakeTimeout time.Duration
	// UserTimeout is how long written data may stay unacknowledged before the
	// kernel gives up (RFC 5482, where the system has it). Zero: its default.
	UserTimeout time.Duration
	// Trusted is called when the relay's key is the right one, or unknown and to be
	// accepted, and its HELLO has come: what fails later is the proof of ours. It may
	// be nil.
	Trusted func(fingerprint string, unknown bool)
	// Recorded is called when a new relay was recorded. It may be nil.
	Recorded func(relay, fingerprint, file string)
}

// DialError is a relay that could not be reached: a retry may succeed.
type DialError struct {
	Relay string
	Err   error
}

func (e *DialError) Error() string { return fmt.Sprintf("reach relay %s: %v", e.Relay, e.Err) }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Dial returns an authenticated connection. The error is a *DialError when the
// relay was not reached or did not finish the handshake, else it says what will
// not get better by itself: a *RelayKeyError, a *keyauth.DeniedError, an error
// that matches keyauth.ErrNoKeys or ErrVersion.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	// Keys first: without one there is no use in disturbing the relay. But a
	// ticket spares the agent.
	var ids *keyauth.Identities
	if len(d.Tickets) == 0 {
		var err error
		if ids, err = d.Identities(ctx); err != nil {
			return nil, err
		}
	}
	raw, err := d.connect(ctx)
	if err != nil {
		return nil, &DialError{d.Relay, err}
	}
	congestion := tune(raw, d.UserTimeout)
	meter := link.NewMeter(raw)
	conn, err := d.handshake(ctx, meter, ids)
	if err != nil {
		meter.Close()
		return nil, d.judge(err)
	}
	conn.Congestion = congestion
	return conn, nil
}

// judge wraps what may get better by itself.
func (d *Dialer) judge(err error) error {
	var key *RelayKeyError
	var denied *keyauth.DeniedError
	switch {
	case errors.As(err, &key), errors.Is(err, ErrVersion), errors.Is(err, keyauth.ErrNoKeys):
		return err
	case errors.As(err, &denied):
		if denied.Code == wire.CodeNotAllowed {
			return fmt.Errorf("relay %s: %w", d.Relay, err)
		}
	}
	return &DialError{d.Relay, err}
}

func (d *Dialer) handshake(ctx context.Context, meter *link.Meter, ids *keyauth.Identities) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { meter.Close() })
	defer stop()
	timeout := d.HandshakeTimeout
	if timeout == 0 {
		timeout = DefaultHandshakeTimeout
	}
	meter.SetDeadline(time.Now().Add(timeout))

	unknown := false
	c := &Conn{Meter: meter}
	c.Conn = tls.Client(meter, d.tlsConfig(&c.Fingerprint, &unknown))
	if err := c.Handshake(); err != nil { //nolint:noctx // AfterFunc above
		return nil, d.cause(ctx, notRelay(err), timeout)
	}
	state := c.ConnectionState()
	b, err := binding(&state, state.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	own := &wire.Hello{MinVersion: wire.MinVersion, MaxVersion: wire.MaxVersion, Features: wire.FeatureResume | wire.FeatureReceipts, Agent: d.Agent}
	var first wire.Message
	if ids == nil {
		first = d.Tickets[0].Message(b)
	} else {
		first = ids.Offer()
	}
	// One write, one flight: what follows need not wait for the relay's HELLO.
	if _, err := c.Write(wire.Append(wire.Append(nil, own), first)); err != nil {
		return nil, d.cause(ctx, err, timeout)
	}
	if err := readHello(c, &c.Peer); err != nil {
		return nil, d.cause(ctx, err, timeout)
	}
	if c.Version, err = checkHello(own, &c.Peer); err != nil {
		return nil, err
	}
	if d.Trusted != nil {
		d.Trusted(c.Fingerprint, unknown)
	}
	if err := d.authenticate(ctx, c, b, ids, timeout); err != nil {
		return nil, err
	}
	meter.SetDeadline(time.Time{})
	if unknown && !d.Trust.Unrecorded {
		if err := d.Trust.Known.Add(d.Relay, c.Fingerprint); err != nil {
			return nil, err
		}
		if d.Recorded != nil {
			d.Recorded(d.Relay, c.Fingerprint, d.Trust.Known.Path)
		}
	}
	return c, nil
}

// authenticate proves a ticket, or else a key. The first TICKET, or the OFFER of
// ids, is on its way.
func (d *Dialer) authenticate(ctx context.Context, c *Conn, b keyauth.Binding, ids *keyauth.Identities, timeout time.Duration) error {
	if ids == nil {
		welcome, err := keyauth.Redeem(ctx, c.Conn, b, d.Tickets)
		switch {
		case err == nil:
			c.Ticket = keyauth.LinkTicket(welcome)
			return nil
		case !errors.Is(err, keyauth.ErrTicketUnknown):
			return d.cause(ctx, err, timeout)
		}
		if ids, err = d.Identities(ctx); err != nil {
			return err
		}
		if _, err := c.Write(wire.Append(nil, ids.Offer())); err != nil {
			return d.cause(ctx, err, timeout)
		}
	}
	// The relay answers within the time of a handshake; a person may take longer.
	w := d.Witness
	w.Signing = func(begins bool) {
		if d.Witness.Signing != nil {
			d.Witness.Signing(begins)
		}
		if begins {
			c.Meter.SetDeadline(time.Now().Add(SignatureTimeout))
		} else {
			c.Meter.SetDeadline(time.Now().Add(timeout))
		}
	}
	welcome, err := keyauth.ProveOffered(ctx, c.Conn, b, ids, w)
	if err != nil {
		return d.cause(ctx, err, timeout)
	}
	c.Ticket = keyauth.LinkTicket(welcome)
	return nil
}

func (d *Dialer) tlsConfig(fingerprint *string, unknown *bool) *tls.Config {
	host, _, _ := net.SplitHostPort(d.Relay)
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{wire.ALPN},
		ServerName:         host,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection pins the key instead of trusting authorities
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != wire.ALPN || len(state.PeerCertificates) == 0 {
				return ErrNotRelay
			}
			*fingerprint = Fingerprint(state.PeerCertificates[0])
			var err error
			*unknown, err = d.Trust.check(d.Relay, *fingerprint)
			return err
		},
	}
}

// cause prefers why ctx ended, and says how long was waited.
func (d *Dialer) cause(ctx context.Context, err error, waited time.Duration) error {
	var ne net.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &ne) && ne.Timeout():
		return &lateError{"the handshake did not end within", waited, err}
	}
	return err
}

// notRelay recognises what other servers answer to our TLS handshake.
func notRelay(err error) error {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &record), errors.As(err, &alert):
		return fmt.Errorf("%w (%w)", ErrNotRelay, err)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" { // an alert
		return fmt.Errorf("%w (%w)", ErrNotRelay, err)
	}
	return err
}

// readHello reads the peer's HELLO, or the refusal that stands in its place.
func readHello(r io.Reader, hello *wire.Hello) error {
	m, err := wire.ReadHandshake(r)
	if err != nil {
		return fmt.Errorf("read HELLO: %w", err)
	}
	switch m := m.(type) {
	case *wire.Hello:
		*hello = *m
		return nil
	case *wire.Denied:
		return keyauth.NewDeniedError(m, 0)
	}
	return wire.Unexpected(m)
}
