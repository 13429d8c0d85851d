package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Policy says which targets a relay dials: allow minus deny. What is not
// allowed is denied. The zero value, and nil, allow nothing. A Policy does not
// change and may be shared.
//
// An entry is one of
//
//	NAME-GLOB:PORTS       matches the name that was asked for; * and ? are wild
//	CIDR:PORTS            matches the address that is dialled; an address is a CIDR of one
//	[IPV6-CIDR]:PORTS
//	localhost:PORTS       loopback and the relay's own addresses
//
// with PORTS 22, 22-23 or *. A client may ask for an address as well; then
// CIDRs judge it, and of the globs only those made of asterisks.
//
// Some addresses are never reached through a glob, so that "*:22" means other
// machines: loopback, link-local (with the metadata services of clouds),
// multicast, broadcast and the relay's own. localhost opens loopback and the
// relay's own; a CIDR opens what it names explicitly: for a reserved range one
// that lies within that range, for the relay's own addresses any but /0. So
// 0.0.0.0/0:* is everybody else's IPv4. The relay's own listening ports need
// such a CIDR even where localhost would open them. Unspecified addresses are
// never dialled.
type Policy struct {
	allow, deny []pattern
}

// PatternError tells which entry of which list cannot be used.
type PatternError struct {
	// List is "allow" or "deny".
	List string
	// Index counts the list's entries from 0.
	Index int
	// Pattern is the entry as it was given.
	Pattern string
	// Reason says what is wrong and what to write instead.
	Reason string
}

// Error names the entry and the reason.
func (e *PatternError) Error() string {
	return fmt.Sprintf("%s[%d]: %q: %s", e.List, e.Index, e.Pattern, e.Reason)
}

// ParsePolicy reads both lists. The error joins one *PatternError for every
// entry that cannot be used (errors.Join: it unwraps to a slice).
func ParsePolicy(allow, deny []string) (*Policy, error) {
	a, aerr := parsePatterns("allow", allow)
	d, derr := parsePatterns("deny", deny)
	if err := errors.Join(append(aerr, derr...)...); err != nil {
		return nil, err
	}
	return &Policy{allow: a, deny: d}, nil
}

func parsePatterns(list string, entries []string) (out []pattern, errs []error) {
	for i, s := range entries {
		p, err := parsePattern(s)
		if err != nil {
			errs = append(errs, &PatternError{List: list, Index: i, Pattern: s, Reason: err.Error()})
			continue
		}
		out = append(out, p)
	}
	return out, errs
}

// self is the relay's own machine at the moment of a judgement.
type self struct {
	// names are the machine's own, lower case, without trailing dots.
	names []string
	// addrs are those of its interfaces, unmapped.
	addrs []netip.Addr
	// listen are the addresses the relay listens on, unmapped.
	listen []netip.AddrPort
}

func (s *self) owns(a netip.Addr) bool { return slices.Contains(s.addrs, a) }

// listensOn reports whether a connection to a and port would reach the relay
// itself. An unspecified listener takes both families, as Go's do.
func (s *self) listensOn(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(s.listen, func(l netip.AddrPort) bool {
		if l.Port() != port {
			return false
		}
		return l.Addr() == a || l.Addr().IsUnspecified() && (a.IsLoopback() || s.owns(a))
	})
}

// mayResolve judges a valid name before anything is asked of a resolver: could
// any address behind it be allowed on port? A name that no rule matches is not
// resolved. It matches
//
//   - a glob, by itself
//   - a CIDR for this port, always: only its address can tell
//   - localhost, when it is localhost, a name under it or the machine's own.
//     Other names may lead to loopback too, yet with only localhost:22 in the
//     list looking them up would tell strangers what the relay's DNS knows.
func (p *Policy) mayResolve(name string, port uint16, me *self) bool {
	if p == nil || p.denies(requested{name: name}, netip.Addr{}, port, me) {
		return false
	}
	return slices.ContainsFunc(p.allow, func(r pattern) bool {
		if !r.ports.contain(port) {
			return false
		}
		own := isLocalhost(name) || slices.Contains(me.names, name)
		return r.matchesName(name) || r.prefix.IsValid() || r.local && own
	})
}

// permits judges an address that was asked for, or that a name resolved to.
func (p *Policy) permits(host requested, a netip.Addr, port uint16, me *self) bool {
	a = a.WithZone("").Unmap()
	if p == nil || !a.IsValid() || port == 0 || p.denies(host, a, port, me) {
		return false
	}
	v := embeddedIPv4(a)
	if v.IsUnspecified() {
		return false
	}
	special := rangeOf(v)
	own := me.owns(v)
	listening := me.listensOn(v, port)
	return slices.ContainsFunc(p.allow, func(r pattern) bool {
		switch {
		case !r.ports.contain(port):
			return false
		case r.contains(v):
			return special.IsValid() && r.prefix.Bits() >= special.Bits() ||
				!special.IsValid() && (r.prefix.Bits() > 0 || !own && !listening)
		case r.local:
			// Behind a translator (v != a), 127.0.0.1 is not this machine's.
			return v == a && !listening && (v.IsLoopback() || own)
		default:
			return !special.IsValid() && !own && !listening && matchesHost(r, host)
		}
	})
}

// denies reports whether a deny entry matches the host that was asked for or,
// when there is one already, the address. An address that carries an IPv4
// address is denied as either.
func (p *Policy) denies(host requested, a netip.Addr, port uint16, me *self) bool {
	return slices.ContainsFunc(p.deny, func(r pattern) bool {
		if !r.ports.contain(port) {
			return false
		}
		if matchesHost(r, host) || r.local && isLocalhost(host.name) {
			return true
		}
		if !a.IsValid() {
			return false
		}
		v := embeddedIPv4(a)
		return r.contains(a) || r.contains(v) || r.local && (v.IsLoopback() || me.owns(v))
	})
}

func matchesHost(r pattern, host requested) bool {
	if host.name == "" {
		return r.matchesEvery()
	}
	return r.matchesName(host.name)
}

// nat64 is the well-known prefix behind which a translator reaches IPv4
// (RFC 6052 §2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embeddedIPv4 returns the IPv4 address that a translator would dial for a, or
// a itself.
func embeddedIPv4(a netip.Addr) netip.Addr {
	if !nat64.Contains(a) {
		return a
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// reserved are the ranges that no glob reaches: they mean this machine, this
// network segment or nobody in particular.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"), // with 169.254.169.254, the metadata service
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"), // the same service, in Amazon's IPv6
	netip.MustParsePrefix("fd20:ce::254/128"),  // and in Google's
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/96"), // once IPv4-compatible, RFC 4291 §2.5.5.1
}

// rangeOf returns the reserved range that a lies in, else an invalid prefix.
func rangeOf(a netip.Addr) netip.Prefix {
	for _, r := range reserved {
		if r.Contains(a) {
			return r
		}
	}
	return netip.Prefix{}
}
