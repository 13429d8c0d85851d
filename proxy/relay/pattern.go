package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
)

// ports is a range of ports, both ends included.
type ports struct{ from, to uint16 }

var everyPort = ports{1, 65535}

func (p ports) contain(port uint16) bool { return p.from <= port && port <= p.to }

// String returns the range as a pattern writes it.
func (p ports) String() string {
	switch {
	case p == everyPort:
		return "*"
	case p.from == p.to:
		return strconv.Itoa(int(p.from))
	default:
		return fmt.Sprintf("%d-%d", p.from, p.to)
	}
}

// pattern is one entry of an allow or deny list. It speaks of names (glob), of
// addresses (prefix), or of the relay's own machine (local); exactly one is
// set.
type pattern struct {
	glob   string // lower case, without trailing dot
	prefix netip.Prefix
	local  bool
	ports  ports
}

// String returns the pattern in its shortest form; parsing it gives the same
// pattern.
func (p pattern) String() string {
	host := p.glob
	switch {
	case p.local:
		host = "localhost"
	case p.prefix.IsValid():
		host = p.prefix.String()
		if p.prefix.IsSingleIP() {
			host = p.prefix.Addr().String()
		}
		if p.prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + p.ports.String()
}

// matchesName reports whether the pattern is a glob that matches name.
func (p pattern) matchesName(name string) bool {
	return p.glob != "" && keyauth.MatchPattern(p.glob, name)
}

// matchesEvery reports whether the pattern is a glob of nothing but asterisks:
// the only kind that speaks of addresses too. "fd*" means names, even though
// fd00::1 begins so.
func (p pattern) matchesEvery() bool { return p.glob != "" && strings.Trim(p.glob, "*") == "" }

func (p pattern) contains(a netip.Addr) bool { return p.prefix.IsValid() && p.prefix.Contains(a) }

const patternForms = "write NAME:PORTS with * and ? in the name, CIDR:PORTS, [IPV6-CIDR]:PORTS or localhost:PORTS"

// parsePattern reads one entry of an allow or deny list.
func parsePattern(s string) (pattern, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return pattern{}, errors.New("it has no port; end it with :22, :22-23 or :*")
	}
	pp, err := parsePorts(s[i+1:])
	if err != nil {
		return pattern{}, err
	}
	p, err := parsePatternHost(s[:i])
	p.ports = pp
	return p, err
}

func parsePatternHost(host string) (pattern, error) {
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return pattern{}, errors.New("a bracket is not closed; write [IPV6-CIDR]:PORTS")
		}
		return parsePatternAddr(inner, true)
	}
	if strings.ContainsAny(host, ":/") {
		return parsePatternAddr(host, false)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return parsePatternAddr(host, false)
	}
	glob := strings.ToLower(strings.TrimSuffix(host, "."))
	if glob == "localhost" {
		return pattern{local: true}, nil
	}
	return pattern{glob: glob}, checkGlob(glob)
}

// parsePatternAddr reads a CIDR, or an address as the CIDR of one.
func parsePatternAddr(s string, bracketed bool) (pattern, error) {
	prefix, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var a netip.Addr
		a, err = netip.ParseAddr(s)
		if a.Zone() != "" {
			return pattern{}, errors.New("an address with a zone means nothing here")
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case err != nil:
		return pattern{}, fmt.Errorf("%q is not an address and not a CIDR; %s", s, patternForms)
	case prefix.Addr().Is6() != bracketed:
		if bracketed {
			return pattern{}, fmt.Errorf("brackets are for IPv6; write %s:PORTS", prefix)
		}
		return pattern{}, fmt.Errorf("an IPv6 CIDR stands in brackets; write [%s]:PORTS", s)
	case prefix != prefix.Masked():
		return pattern{}, fmt.Errorf("%s has bits after its first %d; write %s or a single address", prefix, prefix.Bits(), prefix.Masked())
	case prefix.Addr().Is4In6() && prefix.Bits() >= 96, nat64.Contains(prefix.Addr()) && prefix.Bits() >= nat64.Bits():
		return pattern{}, fmt.Errorf("%s holds IPv4 addresses, which are judged as such; write the IPv4 CIDR", prefix)
	}
	return pattern{prefix: prefix}, nil
}

func parsePorts(s string) (ports, error) {
	if s == "*" {
		return everyPort, nil
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	p := ports{parsePort(from), parsePort(to)}
	if p.from == 0 || p.to == 0 {
		return ports{}, fmt.Errorf("%q is not a port; write 22, 22-23 or * with ports from 1 to 65535", s)
	}
	if p.from > p.to {
		return ports{}, fmt.Errorf("the range %s-%s runs backwards; write %s-%s", from, to, to, from)
	}
	return p, nil
}

// parsePort returns 0 for what is not a port.
func parsePort(s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// checkGlob refuses a glob that no valid name could match, and one that was
// meant for addresses.
func checkGlob(glob string) error {
	if glob == "" {
		return errors.New("it has no host; " + patternForms)
	}
	if len(glob) > maxName {
		return fmt.Errorf("a name of %d bytes, at most %d", len(glob), maxName)
	}
	for _, c := range []byte(glob) {
		if !nameByte(c) && !strings.ContainsRune(".*?", rune(c)) {
			return fmt.Errorf("no host name has a %q; %s", c, patternForms)
		}
	}
	if strings.HasPrefix(glob, ".") || strings.Contains(glob, "..") {
		return errors.New("no host name has an empty label; write *.example.com for the names under one")
	}
	last := glob[strings.LastIndexByte(glob, '.')+1:]
	if strings.ContainsAny(glob, "0123456789") && strings.Trim(glob, "0123456789.*?") == "" || isNumber(last) {
		return errors.New("a name does not match addresses; write a CIDR such as 10.0.0.0/8:22")
	}
	return nil
}
