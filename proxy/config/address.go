package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// DefaultPort is the relay's port where none is given.
const DefaultPort = "7422"

// RelayDirect is the relay address that means: dial the target from here.
const RelayDirect = "direct"

// RelayEmbedded is the relay address that means: a relay inside this process, for
// trying out.
const RelayEmbedded = "embedded"

// ParseRelay reads the relay as the configuration, --relay and $SSHKA_RELAY name
// it, and returns RelayDirect, RelayEmbedded or HOST:PORT with the default port
// filled in.
func ParseRelay(s string) (string, error) {
	const allowed = "write HOST, HOST:PORT, [IPV6]:PORT, direct or embedded"
	switch {
	case s == RelayDirect, s == RelayEmbedded:
		return s, nil
	case strings.Contains(s, "://"):
		return "", fmt.Errorf("%q: SCHEME://… is reserved for other transports; %s", s, allowed)
	case strings.Contains(s, "@"):
		return "", fmt.Errorf("%q names a user, and a relay has none; %s", s, allowed)
	}
	host, port, err := splitRelay(s)
	if err != nil {
		return "", err
	}
	if err := parsePort(port, 1); err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	if !isHost(host) {
		return "", fmt.Errorf("%q is not a host; %s", host, allowed)
	}
	return net.JoinHostPort(host, port), nil
}

func splitRelay(s string) (host, port string, err error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is6() && isHost(s) {
		return "", "", fmt.Errorf("an IPv6 address stands in brackets; write [%s] or [%s]:%s", s, s, DefaultPort)
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok && !strings.Contains(inner, "]") {
			return inner, DefaultPort, nil
		}
	} else if !strings.Contains(s, ":") {
		return s, DefaultPort, nil
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		return "", "", fmt.Errorf("%q is not an address; write HOST, HOST:PORT or [IPV6]:PORT", s)
	}
	return host, port, nil
}

// checkListen judges [HOST]:PORT. Port 0 lets the kernel choose.
func checkListen(s string) error {
	const allowed = "write :PORT, HOST:PORT or [IPV6]:PORT"
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address to listen on; %s", s, allowed)
	}
	if err := parsePort(port, 0); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if host != "" && !isHost(host) {
		return fmt.Errorf("%q is not a host; %s", host, allowed)
	}
	return nil
}

// isHost accepts addresses, and names as far as characters tell; whether one
// exists is for the resolver to say.
func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == "" || isName(addr.Zone()) // netip takes anything for a zone
	}
	return isName(s)
}

func isName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return s != "" && len(s) <= 254 && strings.Trim(strings.ToLower(s), letters+"0123456789-_.") == ""
}

// Trust is how the proxy knows its relay. The zero value trusts a relay that is
// in known_relays and no other.
type Trust struct {
	// AcceptNew records a relay that known_relays does not hold yet.
	AcceptNew bool
	// Pins are the only keys that are accepted, each SHA256:… as
	// "sshka-relay fingerprint" prints it: one, or two while a relay changes its
	// key. With pins known_relays is not asked.
	Pins []string
}

// setTexts reads one text, or a list of pins.
func (t *Trust) setTexts(texts []string) error {
	const allowed = "write accept-new, strict, SHA256:… or a list of two SHA256:…"
	if len(texts) == 1 && texts[0] == "accept-new" {
		*t = Trust{AcceptNew: true}
		return nil
	}
	if len(texts) == 1 && texts[0] == "strict" {
		*t = Trust{}
		return nil
	}
	if len(texts) == 0 || len(texts) > 2 {
		return fmt.Errorf("a list of %d; %s", len(texts), allowed)
	}
	for _, pin := range texts {
		digest, ok := strings.CutPrefix(pin, "SHA256:")
		if !ok {
			return fmt.Errorf("%q is not known; %s", pin, allowed)
		}
		sum, err := base64.RawStdEncoding.Strict().DecodeString(digest)
		if err != nil || len(sum) != 32 || strings.ContainsAny(digest, "\r\n") {
			return fmt.Errorf("%q is not a fingerprint; write SHA256: and 43 characters, as sshka-relay fingerprint prints it", pin)
		}
	}
	*t = Trust{Pins: texts}
	return nil
}
