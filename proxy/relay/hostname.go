package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The longest name and label of the DNS, in bytes (RFC 1035 §2.3.4), without
// the trailing dot.
const (
	maxName  = 253
	maxLabel = 63
)

// requested is a host as a client asked for it: a name or an address, never
// both.
type requested struct {
	// name is in lower case, without the trailing dot. Empty for an address.
	name string
	// addr is invalid for a name.
	addr netip.Addr
}

// parseRequested tells a name from an address and refuses everything else.
//
// Only net/netip decides what an address is. Resolvers are more generous: they
// take "2130706433", "0x7f.1", "127.1" and "0177.0.0.1" for 127.0.0.1, behind
// the back of a rule about names. So a name never ends in a label that is a
// number (WHATWG URL §3.5 "ends in a number", RFC 3696 §2), and holds nothing
// but ASCII letters, digits, hyphens, underscores and dots: an international
// name comes as punycode.
func parseRequested(host string) (requested, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return requested{}, fmt.Errorf("%s is an address with a zone, which means nothing here", quoted(host))
		}
		return requested{addr: a.Unmap()}, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if err := checkName(name); err != nil {
		return requested{}, fmt.Errorf("%s is not a valid host name: %w", quoted(host), err)
	}
	return requested{name: name}, nil
}

// quoted makes a stranger's text safe to print, and short.
func quoted(s string) string { return clip(strconv.QuoteToASCII(s), 120) }

// checkName judges a name without its trailing dot.
func checkName(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("%d bytes, at most %d", len(name), maxName)
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return errors.New("it has an empty label")
		}
		if len(label) > maxLabel {
			return fmt.Errorf("a label of %d bytes, at most %d", len(label), maxLabel)
		}
		for _, c := range []byte(label) {
			if !nameByte(c) {
				return fmt.Errorf("it has a %q", c)
			}
		}
		last = label
	}
	if isNumber(last) {
		return errors.New("it ends in a number")
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isNumber reports whether a resolver may take label for the end of an IPv4
// address: decimal and octal digits, or hexadecimal behind 0x.
func isNumber(label string) bool {
	digits := "0123456789"
	if rest, hex := strings.CutPrefix(strings.ToLower(label), "0x"); hex {
		label, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// isLocalhost reports whether name is reserved for loopback (RFC 6761 §6.3).
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
