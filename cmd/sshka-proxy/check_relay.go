package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// lookupTime and connectTime bound a name's look-up and a connection.
	lookupTime  = 5 * time.Second
	connectTime = 5 * time.Second
)

// checkedLink is the link that the upper layers are looked at through.
type checkedLink struct {
	conn *transport.Conn
	link *link.Link
	rtt  chan time.Duration // of the first beat

	stop    context.CancelFunc
	running sync.WaitGroup
}

// close ends the link and waits for it.
func (l *checkedLink) close() {
	l.stop()
	l.running.Wait()
}

// window is how long the relay keeps a session.
func (l *checkedLink) window() time.Duration {
	if l.conn.Peer.Features&wire.FeatureResume == 0 {
		return 0
	}
	return l.conn.Peer.Window
}

// link looks at everything that a link needs.
func (c *checker) link(ctx context.Context) (*checkedLink, error) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &checkedLink{stop: stop, rtt: make(chan time.Duration, 1)}
	if err := c.makeLink(ctx, life, l); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (c *checker) makeLink(ctx, life context.Context, l *checkedLink) error {
	if c.file.Proxy.Relay == config.RelayEmbedded {
		e, err := embed(c.file, &c.cfg, nil)
		if err != nil {
			return &failure{layerTLS, err.Error(), ""}
		}
		l.running.Go(func() { _ = e.serve(life) })
	}
	ids, err := c.keys(ctx)
	if err != nil {
		return err
	}
	d := *c.cfg.Dialer
	d.Identities = func(context.Context) (*keyauth.Identities, error) { return ids, nil }
	if d.NetDial == nil {
		conn, err := c.connect(ctx, d.Relay)
		if err != nil {
			return err
		}
		defer func() {
			if l.conn == nil {
				conn.Close()
			}
		}()
		d.NetDial = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	}
	if l.conn, err = c.handshake(ctx, &d); err != nil {
		return err
	}
	l.link, err = link.Client(l.conn.Conn, l.conn.Meter, link.Config{
		Heartbeat: c.cfg.Heartbeat, Window: link.WindowFor(c.cfg.Buffer),
		Trace: &link.Trace{BeatAnswered: func(rtt time.Duration) {
			select {
			case l.rtt <- rtt:
			default:
			}
		}},
	})
	if err != nil {
		l.conn.Close()
		return &failure{layerBeat, err.Error(), ""}
	}
	l.running.Go(func() { _ = l.link.Run(life) })
	return nil
}

// keys looks at what there is to prove.
func (c *checker) keys(ctx context.Context) (*keyauth.Identities, error) {
	const next = "make one (ssh-keygen -t ed25519)"
	c.begin(layerKeys, "asking for them")
	ids, err := c.cfg.Dialer.Identities(ctx)
	var unusable *keyauth.NoKeysError
	switch {
	case errors.As(err, &unusable):
		return nil, &failure{layerKeys, "no usable ssh key: " + lines(unusable.Problems), "or " + next}
	case errors.Is(err, keyauth.ErrNoKeys):
		return nil, &failure{layerKeys, "no ssh key found", next}
	case err != nil:
		return nil, &failure{layerKeys, err.Error(), "is ssh-agent running, and not locked?"}
	}
	var names []string
	for _, k := range ids.Keys() {
		name := k.Fingerprint + " (" + k.Type
		if k.Source != "" {
			name += ", " + k.Source
		}
		names = append(names, name+")")
	}
	detail := fmt.Sprintf("%d: %s", len(names), strings.Join(names, ", "))
	if p := ids.Problems(); len(p) > 0 {
		c.warn(layerKeys, detail, lines(p))
	} else {
		c.ok(layerKeys, "%s", detail)
	}
	return ids, nil
}

func lines(errs []error) string {
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// connect looks at the relay's name and at the way there.
func (c *checker) connect(ctx context.Context, relay string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(relay)
	if err != nil {
		return nil, &failure{layerDNS, err.Error(), "write the relay as HOST:PORT"}
	}
	addrs, err := c.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	c.begin(layerTCP, "connecting to "+relay)
	type result struct {
		i       int
		address string
		conn    net.Conn
		err     error
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	results := make(chan result, len(addrs))
	for i, a := range addrs {
		go func() {
			address := net.JoinHostPort(a.String(), port)
			conn, err := c.dial(ctx, "tcp", address)
			results <- result{i, address, conn, err}
		}()
	}
	causes := make([]string, len(addrs))
	worst := unreached{}
	for n := range addrs {
		r := <-results
		if r.err == nil {
			c.ok(layerTCP, "%s in %v", r.address, took(began))
			go func() { // those that come later
				for range len(addrs) - n - 1 {
					if r := <-results; r.conn != nil {
						r.conn.Close()
					}
				}
			}()
			return r.conn, nil
		}
		u := whyUnreached(r.err)
		causes[r.i] = r.address + ": " + u.cause
		if u.rank > worst.rank {
			worst = u
		}
	}
	return nil, &failure{layerTCP, strings.Join(causes, ", "), worst.next}
}

// resolve looks up the relay's name.
func (c *checker) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		c.ok(layerDNS, "%s is an address", host)
		return []netip.Addr{a}, nil
	}
	c.begin(layerDNS, "looking up "+host)
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := c.lookup(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound, err == nil && len(addrs) == 0:
		return nil, &failure{layerDNS, "no such host " + host, "check the relay's name"}
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return nil, &failure{layerDNS, "no name server answers for " + host, "check this computer's network and its name servers"}
	case err != nil:
		return nil, &failure{layerDNS, "look up " + host + ": " + plain(err).Error(), "check this computer's network and its name servers"}
	}
	texts := make([]string, 0, len(addrs))
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
		texts = append(texts, addrs[i].String())
	}
	c.ok(layerDNS, "%s is %s", host, strings.Join(texts, ", "))
	return addrs, nil
}

// handshake looks at the relay's key and at ours.
func (c *checker) handshake(ctx context.Context, d *transport.Dialer) (*transport.Conn, error) {
	began := time.Now()
	layer := layerTLS
	c.begin(layer, "waiting for the relay's handshake")
	d.Trust.Unrecorded = true
	d.Trusted = func(fingerprint string, unknown bool) {
		layer = layerAuthentication
		f := finding{Layer: layerTLS, OK: true, Detail: "the relay's key is " + fingerprint + ", as it should be"}
		if unknown {
			f.Detail = fmt.Sprintf("the relay's key is %s, which is new: the first link would record it in %s", fingerprint, d.Trust.Known.Path)
			f.Next = "compare it with sshka-relay fingerprint there"
		}
		c.tell(f)
		c.begin(layer, "waiting for the relay; a key may want a touch")
	}
	conn, err := d.Dial(ctx)
	if err != nil {
		var dial *transport.DialError
		if errors.As(err, &dial) {
			err = dial.Err
		}
		if layer == layerTLS {
			return nil, &failure{layer, relayCause(err), relayNext(err)}
		}
		var denied *keyauth.DeniedError
		if errors.As(err, &denied) {
			err = denied
		}
		return nil, &failure{layer, err.Error(), proofNext(err)}
	}
	keeps := "ends a session with its link"
	if conn.Peer.Features&wire.FeatureResume != 0 {
		keeps = fmt.Sprintf("keeps a session for %v without a link", conn.Peer.Window)
	}
	c.ok(layerAuthentication, "in %v: the relay lets you in and %s", took(began), keeps)
	return conn, nil
}

// relayCause is why the relay was not trusted, without the next step.
func relayCause(err error) string {
	var key *transport.RelayKeyError
	var ne net.Error
	switch {
	case errors.As(err, &key) && key.Pinned:
		return fmt.Sprintf("the relay shows the key %s, the configuration wants %s", key.Fingerprint, strings.Join(key.Want, " or "))
	case errors.As(err, &key) && len(key.Want) == 0:
		return fmt.Sprintf("the relay shows the key %s, which %s does not have, and trust is strict", key.Fingerprint, key.Where)
	case errors.As(err, &key):
		return fmt.Sprintf("the relay shows the key %s, %s has %s", key.Fingerprint, key.Where, strings.Join(key.Want, " or "))
	case errors.Is(err, transport.ErrNotRelay):
		return transport.ErrNotRelay.Error()
	case errors.As(err, &ne) && ne.Timeout():
		return fmt.Sprintf("no handshake within %v", transport.DefaultHandshakeTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed in the middle of the handshake"
	}
	return plain(err).Error()
}

// relayNext is what to do about it.
func relayNext(err error) string {
	const compare = "compare with sshka-relay fingerprint there: "
	const between = "; otherwise someone is in between"
	var key *transport.RelayKeyError
	var denied *keyauth.DeniedError
	var ne net.Error
	switch {
	case errors.As(err, &key) && key.Pinned:
		return compare + "if the relay was set up anew, change proxy.trust" + between
	case errors.As(err, &key) && len(key.Want) == 0:
		return fmt.Sprintf("%sif it is the same, add the line \"%s %s\"", compare, key.Relay, key.Fingerprint)
	case errors.As(err, &key):
		return compare + "if the relay was set up anew, remove that line" + between
	case errors.Is(err, transport.ErrNotRelay):
		return "something else listens there: check host and port; a hotel's network wants a login first"
	case errors.Is(err, transport.ErrVersion):
		return "update the older of both programs"
	case errors.As(err, &denied):
		return "try again later"
	case errors.As(err, &ne) && ne.Timeout():
		return "it accepts and says nothing: check host and port"
	}
	return "something ended the connection: check host and port, and what stands in between"
}

// proofNext is what to do about a relay that does not let us in.
func proofNext(err error) string {
	var denied *keyauth.DeniedError
	var ne net.Error
	switch {
	case errors.As(err, &denied) && denied.Code == wire.CodeNotAllowed:
		return "put the line of a key's .pub file into the relay's authorized_keys; sshka-relay check there tells which file"
	case errors.As(err, &denied) && denied.Code == wire.CodeVersion:
		return "update the older of both programs"
	case errors.As(err, &denied):
		return "try again later"
	case errors.As(err, &ne) && ne.Timeout():
		return "does a key wait for a touch?"
	}
	return "is ssh-agent locked? The relay's log at level debug has its side"
}

// beat looks whether the link's heart beats.
func (c *checker) beat(ctx context.Context, l *checkedLink) error {
	within := c.cfg.Heartbeat.WithDefaults().Timeout
	late := time.NewTimer(within)
	defer late.Stop()
	l.link.Probe(within)
	c.begin(layerBeat, "waiting for the answer")
	select {
	case rtt := <-l.rtt:
		c.ok(layerBeat, "answered in %v", rtt.Round(10*time.Microsecond))
		return nil
	case <-l.link.Done():
		return &failure{layerBeat, l.link.Err().Error(), "something ended the connection once it was idle or opaque: look at what stands in between"}
	case <-late.C:
		return &failure{
			layerBeat, fmt.Sprintf("no answer within %v (proxy.heartbeat.timeout)", within),
			"raise the timeout if the path is that slow; else something lets only the first bytes through",
		}
	case <-ctx.Done():
		return &failure{layerBeat, "given up", ""}
	}
}
