package keyauth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PermitOpen is one target of a permitopen= option.
type PermitOpen struct {
	// Host is a name or an address as it is asked for, or * for every host.
	// Nothing else in it is wild, and nothing is looked up.
	Host string
	// Port is the port. Zero: every port.
	Port uint16
}

// String is the value of an option that reads as p.
func (p PermitOpen) String() string {
	if p.Port == 0 {
		return strings.TrimSuffix(net.JoinHostPort(p.Host, "0"), "0") + "*"
	}
	return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))
}

// matches judges a target as it was asked for.
func (p PermitOpen) matches(host string, port uint16) bool {
	return (p.Port == 0 || p.Port == port) && (p.Host == "*" || strings.EqualFold(p.Host, host))
}

// maxPermitHost is the longest host of a permitopen=, in bytes: what a target
// may have.
const maxPermitHost = 255

// parsePermitOpen reads HOST:PORT, HOST:*, *:PORT, *:* and *. An IPv6 address
// stands in brackets.
func parsePermitOpen(s string) (PermitOpen, error) {
	const forms = "write host:port, host:* or *:port, an IPv6 address in brackets"
	if s == "*" {
		return PermitOpen{Host: "*"}, nil
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil, host == "", strings.ContainsAny(host, " \t"), len(host) > maxPermitHost:
		return PermitOpen{}, fmt.Errorf("%q is no target; %s", clip(s), forms)
	case strings.Contains(host, "*") && host != "*":
		return PermitOpen{}, fmt.Errorf("%q: no patterns, only * alone; %s", clip(s), forms)
	case strings.HasPrefix(s, "["):
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return PermitOpen{}, fmt.Errorf("%q: only an IPv6 address stands in brackets", clip(s))
		}
	}
	p := PermitOpen{Host: host}
	if port == "*" {
		return p, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return PermitOpen{}, fmt.Errorf("%q: the port is a number from 1 to 65535, or *", clip(s))
	}
	p.Port = uint16(n)
	return p, nil
}

// ErrNotPermitted is matched when a line's permitopen= leaves a target out.
var ErrNotPermitted = errors.New("no permitopen= of the line names this target")

// Permits tells whether the line lets its key open connections to a target, by
// the host as it was asked for. A line without permitopen= permits all that the
// relay allows.
func (g *Grant) Permits(host string, port uint16) error {
	if g.PermitOpen == nil || slices.ContainsFunc(g.PermitOpen, func(p PermitOpen) bool { return p.matches(host, port) }) {
		return nil
	}
	return fmt.Errorf("%w (%s:%d)", ErrNotPermitted, g.File, g.Line)
}
