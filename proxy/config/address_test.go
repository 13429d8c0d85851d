package config

import (
	"net"
	"strings"
	"testing"
)

func TestRelayAddresses(t *testing.T) {
	for s, want := range map[string]string{
		"relay":               "relay:7422",
		"relay.example.com":   "relay.example.com:7422",
		"relay.example.com.":  "relay.example.com.:7422",
		"relay:443":           "relay:443",
		"10.1.2.3":            "10.1.2.3:7422",
		"10.1.2.3:443":        "10.1.2.3:443",
		"[2001:db8::1]":       "[2001:db8::1]:7422",
		"[2001:db8::1]:443":   "[2001:db8::1]:443",
		"[fe80::1%eth0]:443":  "[fe80::1%eth0]:443",
		"direct":              "direct",
		"direct.example":      "direct.example:7422",
		"embedded.example:22": "embedded.example:22",
	} {
		if got, err := ParseRelay(s); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", ":7422", "a:b:c", "[::1", "::1]", "[::1]]", "[]", "[]:1", "[::1]x", "a/b", "a b", "a:65536", "a:-1", "a:07x", "a\n", "ssh://a", "::1", "2001:db8::1", "me@a",
	} {
		if got, err := ParseRelay(s); err == nil {
			t.Errorf("%q: accepted as %q", s, got)
		}
	}
}

func FuzzParseRelay(f *testing.F) {
	for _, s := range []string{"relay", "relay:443", "[::1]:443", "direct", "[::1]", "10.1.2.3", "[fe80::1%eth0]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := ParseRelay(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("%q: %q is not one clean line", s, err)
			}
			return
		}
		if again, err := ParseRelay(addr); err != nil || again != addr {
			t.Fatalf("%q is %q, which is %q, %v", s, addr, again, err)
		}
		if addr == RelayDirect {
			return
		}
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			t.Fatalf("%q is %q: %q %q %v", s, addr, host, port, err)
		}
	})
}

func TestTrustIsOneOfFour(t *testing.T) {
	const pin = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
	for _, tt := range []struct {
		texts []string
		new   bool
		pins  int
		ok    bool
	}{
		{[]string{"accept-new"}, true, 0, true},
		{[]string{"strict"}, false, 0, true},
		{[]string{pin}, false, 1, true},
		{[]string{pin, pin}, false, 2, true},
		{[]string{}, false, 0, false},
		{[]string{pin, pin, pin}, false, 0, false},
		{[]string{pin + "="}, false, 0, false},
		{[]string{pin[:len(pin)-1] + "V"}, false, 0, false}, // bits that no encoder sets
		{[]string{pin[:20] + "\n" + pin[20:]}, false, 0, false},
		{[]string{"sha256:" + pin[7:]}, false, 0, false},
		{[]string{"Strict"}, false, 0, false},
	} {
		trust := Trust{}
		err := trust.setTexts(tt.texts)
		if (err == nil) != tt.ok || trust.AcceptNew != tt.new || len(trust.Pins) != tt.pins {
			t.Errorf("%q: got %+v, %v", tt.texts, trust, err)
		}
	}
}
