package keyauth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A from= option is a list of patterns, as in ssh_config(5): addresses, CIDRs
// and globs, with ! in front of those that exclude. It is kept as text and read
// at every use: so a file takes no more memory than it has bytes.

// pattern is one entry of such a list. Of prefix and glob one is set.
type pattern struct {
	negated bool
	prefix  netip.Prefix
	glob    string // lower case
}

// parsePattern reads one entry.
func parsePattern(s string) (pattern, error) {
	var p pattern
	text := s
	if s, p.negated = strings.CutPrefix(s, "!"); s == "" {
		return p, errors.New("a pattern is empty")
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return p, fmt.Errorf("%q: an address with a zone is not matched", clip(text))
		}
		p.prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		return p, nil
	}
	if strings.Contains(s, "/") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("%q is no CIDR", clip(text))
		}
		if prefix != prefix.Masked() {
			return p, fmt.Errorf("%q has bits beyond its length; write %s", clip(text), prefix.Masked())
		}
		if a := prefix.Addr(); a.Is4In6() {
			if prefix.Bits() < 96 {
				return p, fmt.Errorf("%q mixes IPv4 and IPv6", clip(text))
			}
			prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
		}
		p.prefix = prefix
		return p, nil
	}
	p.glob = strings.ToLower(s)
	if p.negated && !p.possible() {
		// A name that would have to be looked up. To pass it over would let in
		// whom the line excludes.
		return p, fmt.Errorf("%q would exclude nobody: names of clients are not looked up; write an address or a CIDR", clip(text))
	}
	return p, nil
}

// possible tells whether any address could match.
func (p pattern) possible() bool {
	return p.prefix.IsValid() ||
		strings.Trim(p.glob, "0123456789.*?") == "" || strings.Trim(p.glob, "0123456789abcdef:*?") == ""
}

// matches does not look at negated.
func (p pattern) matches(addr netip.Addr) bool {
	if p.prefix.IsValid() {
		return p.prefix.Contains(addr)
	}
	return MatchPattern(p.glob, addr.String())
}

// checkFrom tells why list cannot be used.
func checkFrom(list string) error {
	possible := false
	for s := range strings.SplitSeq(list, ",") {
		p, err := parsePattern(s)
		if err != nil {
			return err
		}
		possible = possible || !p.negated && p.possible()
	}
	if !possible {
		return fmt.Errorf("%q lets nobody in: it needs an address, a CIDR or a glob of addresses; names of clients are not looked up", clip(list))
	}
	return nil
}

// fromMatches tells whether addr is matched by list: by one pattern at least, and
// by none that is negated. What checkFrom refuses matches nothing.
func fromMatches(list string, addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("")
	matched := false
	for s := range strings.SplitSeq(list, ",") {
		p, err := parsePattern(s)
		if err != nil {
			return false
		}
		if p.matches(addr) {
			if p.negated {
				return false
			}
			matched = true
		}
	}
	return matched
}

// MatchPattern reports whether s matches glob, in which * stands for any characters
// and ? for one (ssh_config(5), PATTERNS, without lists and negation). Its time is
// bounded by the product of both lengths.
func MatchPattern(glob, s string) bool {
	// It goes back to the latest asterisk only, which is enough.
	g, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, i
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == s[i]):
			g++
			i++
		case star >= 0:
			mark++
			g, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
