package relay

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{
		"*:22", "localhost:22-23", "10.0.0.0/8:*", "[fd00::/8]:22", "[::1]:1-65535", "db-?.internal.:22",
		"10.1.2.3:0022", "LOCALHOST.:*", "[64:ff9b::/64]:22", "0.0.0.0/0:*", "a:b:22", "[::ffff:1.2.3.4]:22",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePattern(s)
		if err != nil {
			return
		}
		again, err := parsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q is %+v, printed %q, parsed again %+v, %v", s, p, p.String(), again, err)
		}
		if p.ports.from == 0 || p.ports.from > p.ports.to {
			t.Fatalf("%q: ports %+v", s, p.ports)
		}
		// Whatever one entry is, a glob or localhost, it opens no metadata service.
		pol := &Policy{allow: []pattern{p}}
		meta := netip.MustParseAddr("169.254.169.254")
		if pol.permits(requested{addr: meta}, meta, p.ports.from, &self{}) && p.prefix.Bits() < 16 {
			t.Fatalf("%q allows %s", s, meta)
		}
	})
}

func FuzzRequestedHost(f *testing.F) {
	for _, s := range []string{
		"localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "::1%lo", "a.b.", "0x.0x", "1.2.3.4",
		"0x7f.0x0.0x0.0x1", "::ffff:127.0.0.1", "xn--p1ai",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseRequested(s)
		if err != nil {
			return
		}
		if h.name == "" {
			if !h.addr.IsValid() || h.addr.Zone() != "" || h.addr.Is4In6() {
				t.Fatalf("%q is address %v", s, h.addr)
			}
			return
		}
		if h.addr.IsValid() {
			t.Fatalf("%q is both name and address", s)
		}
		// What goes to the resolver is s itself.
		for _, name := range []string{h.name, s} {
			if _, err := netip.ParseAddr(name); err == nil {
				t.Fatalf("%q is an address to netip", name)
			}
			if atonAccepts(name) || atonAccepts(strings.TrimSuffix(name, ".")) {
				t.Fatalf("%q is an address to inet_aton", name)
			}
			if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/%:[]@", r) }) {
				t.Fatalf("%q holds what no name holds", name)
			}
		}
		if again, err := parseRequested(h.name); err != nil || again != h {
			t.Fatalf("%q is %q, which is %+v, %v", s, h.name, again, err)
		}
	})
}

// atonAccepts reads addresses as inet_aton(3) does: one to four numbers,
// decimal, octal or hexadecimal, the last of which fills what is left.
func atonAccepts(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	for i, p := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		base, digits := 10, p
		if rest, ok := strings.CutPrefix(strings.ToLower(p), "0x"); ok {
			base, digits = 16, rest
		} else if len(p) > 1 && p[0] == '0' {
			base, digits = 8, p[1:]
		}
		if _, err := strconv.ParseUint(digits, base, bits); err != nil {
			return false
		}
	}
	return true
}
