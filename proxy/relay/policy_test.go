package relay

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// testSelf is a machine called box with two addresses, a relay on every one of
// them, an admin address on loopback and a listener on an address that no
// interface shows.
func testSelf() *self {
	return &self{
		names: []string{"box.example.com", "box"},
		addrs: []netip.Addr{
			netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"),
			netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8::3"),
		},
		listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:7422"), netip.MustParseAddrPort("127.0.0.1:9471"), netip.MustParseAddrPort("203.0.113.1:443")},
	}
}

func mustPolicy(t *testing.T, allow, deny string) *Policy {
	t.Helper()
	p, err := ParsePolicy(strings.Fields(allow), strings.Fields(deny))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicyJudgesAddresses(t *testing.T) {
	const byDefault = "localhost:22 *:22"
	tests := []struct {
		name        string
		allow, deny string
		host        string // what was asked for
		addr        string // what it is or resolved to
		port        uint16
		want        bool
	}{
		{"default, a name", byDefault, "", "db.internal", "10.9.9.9", 22, true},
		{"default, a name, v6", byDefault, "", "db.internal", "2001:db8::9", 22, true},
		{"default, an address", byDefault, "", "10.9.9.9", "10.9.9.9", 22, true},
		{"default, another port", byDefault, "", "db.internal", "10.9.9.9", 23, false},
		{"default, port 0", "*:*", "", "db.internal", "10.9.9.9", 0, false},
		{"default, localhost", byDefault, "", "localhost", "127.0.0.1", 22, true},
		{"default, localhost v6", byDefault, "", "localhost", "::1", 22, true},
		{"default, Debian's own name", byDefault, "", "box", "127.0.1.1", 22, true},
		{"default, own address", byDefault, "", "box", "10.1.2.3", 22, true},
		{"default, own address asked for", byDefault, "", "2001:db8::3", "2001:db8::3", 22, true},
		{"default, any name that leads home", byDefault, "", "evil.example", "127.0.0.1", 22, true},

		{"a glob never reaches loopback", "*:22", "", "evil.example", "127.0.0.1", 22, false},
		{"a glob never reaches loopback as literal", "*:22", "", "127.0.0.1", "127.0.0.1", 22, false},
		{"a glob never reaches all of 127/8", "*:22", "", "evil.example", "127.9.9.9", 22, false},
		{"a glob never reaches ::1", "*:22", "", "evil.example", "::1", 22, false},
		{"a glob never reaches own v4", "*:22", "", "evil.example", "10.1.2.3", 22, false},
		{"a glob never reaches own v6", "*:22", "", "evil.example", "2001:db8::3", 22, false},
		{"a glob never reaches the metadata service", "*:80", "", "evil.example", "169.254.169.254", 80, false},
		{"a glob never reaches the metadata service in v6", "*:80", "", "evil.example", "fd00:ec2::254", 80, false},
		{"a glob never reaches link-local", "*:22", "", "evil.example", "fe80::1", 22, false},
		{"a glob never reaches multicast", "*:22", "", "evil.example", "224.0.0.1", 22, false},
		{"a glob never reaches multicast v6", "*:22", "", "evil.example", "ff02::1", 22, false},
		{"a glob never reaches broadcast", "*:22", "", "evil.example", "255.255.255.255", 22, false},
		{"a glob never reaches this network", "*:22", "", "evil.example", "0.1.2.3", 22, false},
		{"a glob named localhost's friend", "local*:22", "", "localhost", "127.0.0.1", 22, false},
		{"unspecified, never", "*:22 0.0.0.0/0:22 0.0.0.0:22 localhost:22", "", "0.0.0.0", "0.0.0.0", 22, false},
		{"unspecified v6, never", "*:22 [::/0]:22 [::]:22 localhost:22", "", "::", "::", 22, false},

		{"mapped loopback", "*:22", "", "evil.example", "::ffff:127.0.0.1", 22, false},
		{"mapped metadata service", "*:80", "", "::ffff:169.254.169.254", "::ffff:169.254.169.254", 80, false},
		{"mapped, judged as v4", "10.0.0.0/8:22", "", "x.example", "::ffff:10.9.9.9", 22, true},
		{"NAT64 of loopback", "*:22", "", "evil.example", "64:ff9b::7f00:1", 22, false},
		{"NAT64 of loopback is not this machine", "localhost:22", "", "evil.example", "64:ff9b::7f00:1", 22, false},
		{"NAT64 of the metadata service", "*:80", "", "evil.example", "64:ff9b::a9fe:a9fe", 80, false},
		{"NAT64 of unspecified", "*:22", "", "evil.example", "64:ff9b::", 22, false},
		{"NAT64, judged as v4", "192.0.2.0/24:22", "", "x.example", "64:ff9b::c000:201", 22, true},
		{"NAT64, through a glob", "*:22", "", "x.example", "64:ff9b::c000:201", 22, true},
		{"NAT64, denied as v4", "*:22", "192.0.2.0/24:22", "x.example", "64:ff9b::c000:201", 22, false},
		{"NAT64, denied as v6", "*:22", "[::/0]:22", "x.example", "64:ff9b::c000:201", 22, false},
		{"v4-compatible loopback", "*:22", "", "evil.example", "::127.0.0.1", 22, false},
		{"a zone from a resolver", "[fe80::/10]:22", "", "printer", "fe80::1%eth0", 22, true},

		{"explicit loopback", "127.0.0.1:22", "", "evil.example", "127.0.0.1", 22, true},
		{"explicit loopback range", "127.0.0.0/8:22", "", "127.3.3.3", "127.3.3.3", 22, true},
		{"explicit ::1", "[::1]:22", "", "::1", "::1", 22, true},
		{"explicit link-local", "169.254.0.0/16:80", "", "169.254.169.254", "169.254.169.254", 80, true},
		{"explicit multicast", "224.0.0.0/4:22", "", "224.0.0.1", "224.0.0.1", 22, true},
		{"everything is not explicit for loopback", "0.0.0.0/0:*", "", "127.0.0.1", "127.0.0.1", 22, false},
		{"everything is not explicit for ::1", "[::/0]:*", "", "::1", "::1", 22, false},
		{"everything is not explicit for metadata", "0.0.0.0/0:*", "", "169.254.169.254", "169.254.169.254", 80, false},
		{"half of everything is not explicit for metadata", "128.0.0.0/1:*", "", "169.254.169.254", "169.254.169.254", 80, false},
		{"everything is not explicit for own", "0.0.0.0/0:*", "", "10.1.2.3", "10.1.2.3", 22, false},
		{"everything is everybody else", "0.0.0.0/0:*", "", "10.9.9.9", "10.9.9.9", 22, true},
		{"a CIDR is explicit for own", "10.0.0.0/8:22", "", "x.example", "10.1.2.3", 22, true},
		{"a CIDR of the other family", "[::/0]:22", "", "x.example", "10.9.9.9", 22, false},
		{"a CIDR of another port", "10.0.0.0/8:80", "", "x.example", "10.9.9.9", 22, false},
		{"outside the CIDR", "10.0.0.0/8:22", "", "x.example", "11.0.0.1", 22, false},
		{"v6 CIDR", "[2001:db8:1::/48]:22", "", "x.example", "2001:db8:1::5", 22, true},
		{"v6 address", "[fd00::1]:22", "", "fd00::1", "fd00::1", 22, true},
		{"v6 address, another", "[fd00::1]:22", "", "fd00::2", "fd00::2", 22, false},

		{"own listener", "localhost:* *:*", "", "127.0.0.1", "127.0.0.1", 7422, false},
		{"own listener on every address", "localhost:*", "", "box", "10.1.2.3", 7422, false},
		{"own listener v6", "localhost:*", "", "box", "2001:db8::3", 7422, false},
		{"own admin address", "localhost:*", "", "localhost", "127.0.0.1", 9471, false},
		{"admin port, another address", "localhost:*", "", "box", "10.1.2.3", 9471, true},
		{"own listener, mapped", "localhost:*", "", "evil.example", "::ffff:127.0.0.1", 7422, false},
		{"own listener, explicit", "10.1.2.3:7422", "", "box", "10.1.2.3", 7422, true},
		{"own listener, everything", "0.0.0.0/0:*", "", "box", "10.1.2.3", 7422, false},
		{"own listener on no interface", "*:*", "", "relay.example", "203.0.113.1", 443, false},
		{"own listener on no interface, explicit", "203.0.113.1:443", "", "relay.example", "203.0.113.1", 443, true},
		{"the same port elsewhere", "*:*", "", "relay2.example", "10.9.9.9", 7422, true},

		{"glob in another case", "DB-?.Internal:22", "", "db-1.INTERNAL", "10.9.9.9", 22, true},
		{"name with a trailing dot", "db.internal:22", "", "db.internal.", "10.9.9.9", 22, true},
		{"glob with a trailing dot", "db.internal.:22", "", "db.internal", "10.9.9.9", 22, true},
		{"glob over labels", "*.internal:22", "", "a.b.internal", "10.9.9.9", 22, true},
		{"glob, not the parent", "*.internal:22", "", "internal", "10.9.9.9", 22, false},
		{"glob, not a longer name", "*.internal:22", "", "a.internal.evil.example", "10.9.9.9", 22, false},
		{"a name glob does not match addresses", "fd*:22", "", "fd00::1", "fd00::1", 22, false},
		{"range from", "*:22-23", "", "a", "10.9.9.9", 22, true},
		{"range to", "*:22-23", "", "a", "10.9.9.9", 23, true},
		{"range below", "*:22-23", "", "a", "10.9.9.9", 21, false},
		{"range above", "*:22-23", "", "a", "10.9.9.9", 24, false},
		{"every port", "*:*", "", "a", "10.9.9.9", 65535, true},

		{"deny wins, name", "*:22", "prod-*:22", "PROD-1.", "10.9.9.9", 22, false},
		{"deny wins, other name", "*:22", "prod-*:22", "dev-1", "10.9.9.9", 22, true},
		{"deny wins, other port", "*:*", "prod-*:22", "prod-1", "10.9.9.9", 80, true},
		{"deny wins, address", "*:22", "10.0.0.0/8:*", "a", "10.9.9.9", 22, false},
		{"deny wins, mapped", "*:22", "10.0.0.0/8:*", "a", "::ffff:10.9.9.9", 22, false},
		{"deny wins over a CIDR", "10.0.0.0/8:22", "10.9.9.9:22", "a", "10.9.9.9", 22, false},
		{"deny everything, literal", "10.0.0.0/8:22", "*:22", "10.9.9.9", "10.9.9.9", 22, false},
		{"deny localhost", "127.0.0.0/8:22 localhost:22", "localhost:22", "a", "127.0.0.1", 22, false},
		{"deny localhost, own address", "10.0.0.0/8:22", "localhost:*", "a", "10.1.2.3", 22, false},
		{"deny localhost, others", "*:22", "localhost:*", "a", "10.9.9.9", 22, true},
		{"v6 everything denies no v4", "*:22", "[::/0]:*", "a", "::ffff:10.9.9.9", 22, true},
		{"nothing allowed", "", "", "a", "10.9.9.9", 22, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, err := parseRequested(tt.host)
			if err != nil {
				t.Fatal(err)
			}
			got := mustPolicy(t, tt.allow, tt.deny).permits(host, netip.MustParseAddr(tt.addr), tt.port, testSelf())
			if got != tt.want {
				t.Errorf("allow %q deny %q: %s at %s port %d: got %v, want %v", tt.allow, tt.deny, tt.host, tt.addr, tt.port, got, tt.want)
			}
		})
	}
	if (*Policy)(nil).permits(requested{name: "a"}, netip.MustParseAddr("10.9.9.9"), 22, testSelf()) {
		t.Error("a nil policy allows something")
	}
}

func TestPolicyResolvesOnlyWhatARuleMatches(t *testing.T) {
	tests := []struct {
		allow, deny, name string
		want              bool
	}{
		{"localhost:22 *:22", "", "db.internal", true},
		{"*.internal:22", "", "db.internal", true},
		{"*.internal:22", "", "db.example", false},
		{"*.internal:80", "", "db.internal", false},
		{"localhost:22", "", "localhost", true},
		{"localhost:22", "", "db.localhost", true},
		{"localhost:22", "", "box", true},
		{"localhost:22", "", "box.example.com", true},
		{"localhost:22", "", "box.example", false},
		{"localhost:22", "", "notlocalhost", false},
		{"localhost:80", "", "localhost", false},
		{"10.0.0.0/8:22", "", "any.example", true},
		{"10.0.0.0/8:80", "", "any.example", false},
		{"10.0.0.0/8:22", "any.*:22", "any.example", false},
		{"*:22", "10.0.0.0/8:22", "any.example", true},
		{"*:22", "localhost:22", "localhost", false},
		{"", "", "any.example", false},
	}
	for _, tt := range tests {
		if got := mustPolicy(t, tt.allow, tt.deny).mayResolve(tt.name, 22, testSelf()); got != tt.want {
			t.Errorf("allow %q deny %q: resolve %s: got %v, want %v", tt.allow, tt.deny, tt.name, got, tt.want)
		}
	}
}

func TestParsePolicyNamesEveryBadEntry(t *testing.T) {
	_, err := ParsePolicy([]string{"*:22", "10.1.2.3"}, []string{"a b:22", "x:0"})
	want := `allow[1]: "10.1.2.3": it has no port; end it with :22, :22-23 or :*
deny[0]: "a b:22": no host name has a ' '; write NAME:PORTS with * and ? in the name, CIDR:PORTS, [IPV6-CIDR]:PORTS or localhost:PORTS
deny[1]: "x:0": "0" is not a port; write 22, 22-23 or * with ports from 1 to 65535`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var pe *PatternError
	if !errors.As(err, &pe) || pe.List != "allow" || pe.Index != 1 || pe.Pattern != "10.1.2.3" {
		t.Errorf("got %#v", pe)
	}
}

func TestPatternsThatCannotMeanAnythingAreRefused(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{"", "no port"},
		{"host", "no port"},
		{"10.0.0.0/8", "no port"},
		{"[fd00::1]", "no port"},
		{":22", "no host"},
		{"host:", "not a port"},
		{"host:ssh", "not a port"},
		{"host:65536", "not a port"},
		{"host:-1", "not a port"},
		{"host:22-", "not a port"},
		{"host:+22", "not a port"},
		{"host:23-22", "backwards; write 22-23"},
		{"fd00::1:22", "stands in brackets; write [fd00::1]"},
		{"fd00::/8:22", "stands in brackets; write [fd00::/8]"},
		{"[10.0.0.0/8]:22", "brackets are for IPv6; write 10.0.0.0/8"},
		{"[fd00::1:22", "not closed"},
		{"[fd00::1%eth0]:22", "zone"},
		{"[localhost]:22", "not an address"},
		{"10.0.0.0/33:22", "not an address and not a CIDR"},
		{"10.1.2.3/8:22", "write 10.0.0.0/8"},
		{"[::ffff:10.0.0.0/104]:22", "write the IPv4 CIDR"},
		{"[::ffff:10.0.0.1]:22", "write the IPv4 CIDR"},
		{"[64:ff9b::/96]:22", "write the IPv4 CIDR"},
		{"10.*:22", "write a CIDR"},
		{"10.0.0.?:22", "write a CIDR"},
		{"127.1:22", "write a CIDR"},
		{"0x7f.1:22", "write a CIDR"},
		{"2130706433:22", "write a CIDR"},
		{"a..b:22", "empty label"},
		{".internal:22", "write *.example.com"},
		{"böx:22", "no host name has"},
		{"[a-z]:22", "not an address"},
		{" host:22", "no host name has a ' '"},
		{"user@host:22", "no host name has a '@'"},
		{strings.Repeat("a", 254) + ":22", "at most 253"},
	}
	for _, tt := range tests {
		p, err := parsePattern(tt.pattern)
		if err == nil {
			t.Errorf("%q: accepted as %s", tt.pattern, p)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %q, want %q in it", tt.pattern, err, tt.want)
		}
	}
}

func TestHostsThatResolversMisreadAreRefused(t *testing.T) {
	tests := []struct{ host, want string }{
		{"", "it is empty"},
		{".", "it is empty"},
		{"2130706433", "ends in a number"},
		{"127.1", "ends in a number"},
		{"127.0.1", "ends in a number"},
		{"0177.0.0.1", "ends in a number"},
		{"017700000001", "ends in a number"},
		{"0x7f.1", "ends in a number"},
		{"0x7f000001", "ends in a number"},
		{"0X7F000001", "ends in a number"},
		{"1.0x", "ends in a number"},
		{"127.0.0.1.", "ends in a number"},
		{"127.0.0.01", "ends in a number"},
		{"evil.example.1", "ends in a number"},
		{"fe80::1%eth0", "zone"},
		{"::1%lo", "zone"},
		{"[::1]", "it has a '['"},
		{"a..b", "empty label"},
		{".a", "empty label"},
		{"a..", "empty label"},
		{"a b", "it has a ' '"},
		{"a/b", "it has a '/'"},
		{"a%b", "it has a '%'"},
		{"a:b", "it has a ':'"},
		{"user@a", "it has a '@'"},
		{"*", "it has a '*'"},
		{"a\x00b", `it has a '\x00'`},
		{"a\nb", `it has a '\n'`},
		{"bücher.example", "it has a"},
		{"127。0。0。1", "it has a"},
		{"①27.0.0.1a", "it has a"},
		{strings.Repeat("a", 64), "a label of 64 bytes"},
		{strings.Repeat("a.", 127) + "ab", "256 bytes"},
	}
	for _, tt := range tests {
		h, err := parseRequested(tt.host)
		if err == nil {
			t.Errorf("%q: accepted as %+v", tt.host, h)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %q, want %q in it", tt.host, err, tt.want)
		}
	}
}

func TestHostsThatAreFine(t *testing.T) {
	for host, want := range map[string]requested{
		"Host":               {name: "host"},
		"db-1.Internal.":     {name: "db-1.internal"},
		"_ssh._tcp.example":  {name: "_ssh._tcp.example"},
		"xn--bcher-kva.test": {name: "xn--bcher-kva.test"},
		"3com.com":           {name: "3com.com"},
		"0xg":                {name: "0xg"},
		"10.0.0.1":           {addr: netip.MustParseAddr("10.0.0.1")},
		"::ffff:10.0.0.1":    {addr: netip.MustParseAddr("10.0.0.1")},
		"FD00::1":            {addr: netip.MustParseAddr("fd00::1")},

		strings.Repeat("a", 63): {name: strings.Repeat("a", 63)},
	} {
		got, err := parseRequested(host)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", host, got, err)
		}
	}
}
