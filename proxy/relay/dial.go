package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// DefaultDialTimeout bounds the reaching of a target: look-up and connection
// together.
const DefaultDialTimeout = 10 * time.Second

// maxTargetAddrs is how many of a name's addresses are tried. More is nobody's
// ssh server, but a way to make a relay knock at many doors.
const maxTargetAddrs = 16

// Dialer reaches targets under a Policy. It resolves a name once, judges every
// address and dials those that are allowed, never the name: what a name means
// may change between two look-ups on purpose (DNS rebinding).
//
// A Dialer may be used by several goroutines; its fields do not change once it
// is in use.
type Dialer struct {
	// Policy says what may be dialled. Nil allows nothing.
	Policy *Policy
	// Relay is the name by which refusals call this relay. Empty: "this relay".
	Relay string
	// Timeout bounds one Dial. Zero means DefaultDialTimeout.
	Timeout time.Duration
	// Keepalive is how long a target's connection may be silent before the
	// kernel probes it, and the time between probes; after three unanswered
	// ones the connection has failed. Zero or negative turns probing off.
	Keepalive time.Duration

	// Names are the names of this machine, which localhost entries cover. Nil
	// means what the kernel calls it, in full and up to the first dot.
	Names []string
	// Listen returns the addresses this process listens on, its admin address
	// included: no target unless a CIDR names them. Nil means none.
	Listen func() []netip.AddrPort
	// InterfaceAddrs lists this machine's addresses, as *net.IPNet or *net.IPAddr.
	// It is called once in every Dial, since addresses come and go. Nil means
	// net.InterfaceAddrs, asked once a second at most.
	InterfaceAddrs func() ([]net.Addr, error)
	// LookupNetIP resolves a name. Nil means net.DefaultResolver's method.
	LookupNetIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// DialContext connects to an address. Nil means a net.Dialer with Keepalive
	// that judges the address once more before it connects.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dial connects to target. The error is a *DialError.
func (d *Dialer) Dial(ctx context.Context, target wire.Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	conn, err := d.dial(ctx, target)
	if err != nil {
		return nil, d.dialError(target, err)
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, target wire.Target) (net.Conn, error) {
	host, err := parseRequested(target.Host)
	if err != nil {
		return nil, badHostError{err}
	}
	me, err := d.self()
	if err != nil {
		return nil, err
	}
	addrs, err := d.resolve(ctx, host, target, me)
	if err != nil {
		return nil, err
	}
	allowed := make([]netip.AddrPort, 0, len(addrs))
	for _, a := range addrs {
		if d.Policy.permits(host, a, target.Port, me) {
			allowed = append(allowed, netip.AddrPortFrom(a.Unmap(), target.Port))
		}
	}
	if len(allowed) == 0 {
		return nil, fmt.Errorf("%w: %v", errNotAllowed, addrs)
	}
	allowed = interleave(allowed)
	allowed = allowed[:min(len(allowed), maxTargetAddrs)]
	return race(ctx, allowed, d.dialFunc(host, me))
}

// resolve returns the addresses behind host without judging them, or
// errNotAllowed when none could be allowed.
func (d *Dialer) resolve(ctx context.Context, host requested, target wire.Target, me *self) ([]netip.Addr, error) {
	if host.name == "" {
		return []netip.Addr{host.addr}, nil
	}
	if target.Port == 0 || !d.Policy.mayResolve(host.name, target.Port, me) {
		return nil, fmt.Errorf("%w: no rule for this name", errNotAllowed)
	}
	if isLocalhost(host.name) {
		// Resolvers should not be asked (RFC 6761 §6.3), and need not know it.
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	lookup := d.LookupNetIP
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	// The name goes as it came: a trailing dot keeps search domains out of it.
	addrs, err := lookup(ctx, "ip", target.Host)
	if err != nil {
		return nil, lookupError{err}
	}
	if len(addrs) == 0 {
		return nil, lookupError{&net.DNSError{Err: "no addresses", Name: target.Host, IsNotFound: true}}
	}
	return addrs, nil
}

// self looks at this machine. Not knowing its addresses is an error: they could
// not be told from anybody else's.
func (d *Dialer) self() (*self, error) {
	interfaceAddrs := d.InterfaceAddrs
	if interfaceAddrs == nil {
		interfaceAddrs = machine.get
	}
	list, err := interfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the relay's own addresses: %w", err)
	}
	me := &self{names: d.ownNames()}
	for _, a := range list {
		var ip net.IP
		switch a := a.(type) {
		case *net.IPNet:
			ip = a.IP
		case *net.IPAddr: // an anycast address on Windows
			ip = a.IP
		}
		if own, ok := netip.AddrFromSlice(ip); ok {
			me.addrs = append(me.addrs, own.Unmap())
		}
	}
	if d.Listen != nil {
		for _, l := range d.Listen() {
			me.listen = append(me.listen, netip.AddrPortFrom(l.Addr().WithZone("").Unmap(), l.Port()))
		}
	}
	return me, nil
}

func (d *Dialer) ownNames() []string {
	names := d.Names
	if names == nil {
		full, err := os.Hostname()
		if err != nil {
			return nil // a machine without a name has no name to cover
		}
		short, _, _ := strings.Cut(full, ".")
		names = []string{full, short}
	}
	own := make([]string, 0, len(names))
	for _, n := range names {
		own = append(own, strings.ToLower(strings.TrimSuffix(n, ".")))
	}
	return own
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return DefaultDialTimeout
}

// dialFunc returns what connects to one allowed address.
func (d *Dialer) dialFunc(host requested, me *self) dialFunc {
	return func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		if d.DialContext != nil {
			return d.DialContext(ctx, "tcp", a.String())
		}
		return d.netDialer(host, a, me).DialContext(ctx, "tcp", a.String())
	}
}

// netDialer returns a dialer for a and nothing else: its Control sees the very
// address that the socket is about to connect to.
func (d *Dialer) netDialer(host requested, a netip.AddrPort, me *self) *net.Dialer {
	nd := &net.Dialer{
		KeepAlive: -1,
		Control: func(_, address string, _ syscall.RawConn) error {
			actual, err := netip.ParseAddrPort(address)
			if err != nil || actual.Addr().Unmap() != a.Addr() || actual.Port() != a.Port() ||
				!d.Policy.permits(host, actual.Addr(), actual.Port(), me) {
				return fmt.Errorf("%w: about to connect to %s", errNotAllowed, address)
			}
			return nil
		},
	}
	if d.Keepalive > 0 {
		nd.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: d.Keepalive, Interval: d.Keepalive, Count: 3}
	}
	return nd
}
