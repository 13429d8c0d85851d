package keyauth

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestFromMatchesAsSSHDDoes(t *testing.T) {
	for _, c := range []struct {
		list, addr string
		want       bool
	}{
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.70", false},
		{"192.0.2.7", "::ffff:192.0.2.7", true},
		{"::ffff:192.0.2.7", "192.0.2.7", true},
		{"192.0.2.0/24", "192.0.2.255", true},
		{"192.0.2.0/24", "192.0.3.0", false},
		{"::ffff:192.0.2.0/120", "192.0.2.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "192.0.2.7", false},
		{"2001:db8::/32", "2001:db8:ffff::1", true},
		{"2001:DB8::1", "2001:db8:0::1", true},
		{"192.0.2.*", "192.0.2.7", true},
		{"192.0.2.?", "192.0.2.70", false},
		{"192.0.2.??", "192.0.2.70", true},
		{"2001:DB8:*", "2001:db8::1", true},
		{"*", "192.0.2.7", true},
		{"*", "2001:db8::1", true},
		{"*,!192.0.2.7", "192.0.2.7", false},
		{"!192.0.2.7,*", "192.0.2.7", false},
		{"!192.0.2.0/24,192.0.2.7", "192.0.2.7", false},
		{"!192.0.2.7,*", "192.0.2.8", true},
		{"!192.0.2.7", "192.0.2.8", false}, // nothing that matches
		{"!192.0.2.*,10.0.0.0/8", "10.1.1.1", true},
		{"gateway.example.com,10.0.0.0/8", "10.1.1.1", true},
		{"gateway.example.com,10.0.0.0/8", "192.0.2.7", false},
		{"fe80::/10", "fe80::1%eth0", true},
	} {
		if got := fromMatches(c.list, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("from=%q, %s: %v", c.list, c.addr, got)
		}
	}
	if fromMatches("*", netip.Addr{}) {
		t.Error("matches a connection without an address")
	}
}

func TestPermitOpenIsComparedAsText(t *testing.T) {
	for _, c := range []struct {
		option, host string
		port         uint16
		want         bool
	}{
		{"db.lan:22", "db.lan", 22, true},
		{"db.lan:22", "DB.lan", 22, true},
		{"db.lan:22", "db.lan.", 22, false},
		{"db.lan:22", "db.lan", 23, false},
		{"db.lan:22", "x.db.lan", 22, false},
		{"db.lan:*", "db.lan", 65535, true},
		{"*:22", "10.0.0.1", 22, true},
		{"*:22", "10.0.0.1", 23, false},
		{"*", "anything", 1, true},
		{"[2001:db8::1]:22", "2001:db8::1", 22, true},
		{"[2001:db8::1]:22", "2001:db8:0::1", 22, false},
		{"127.0.0.1:22", "localhost", 22, false},
	} {
		p, err := parsePermitOpen(c.option)
		must(t, err)
		g := Grant{PermitOpen: []PermitOpen{p}, File: "/f", Line: 3}
		if err := g.Permits(c.host, c.port); (err == nil) != c.want {
			t.Errorf("permitopen=%q, %s %d: %v", c.option, c.host, c.port, err)
		}
	}
	if err := (&Grant{}).Permits("h", 1); err != nil {
		t.Error("without the option:", err)
	}
	if err := (&Grant{PermitOpen: []PermitOpen{}, File: "/f", Line: 3}).Permits("h", 1); err == nil || err.Error() != "no permitopen= of the line names this target (/f:3)" {
		t.Error(err)
	}
}

func TestExpiryIsReadAsSSHDReadsIt(t *testing.T) {
	zone := time.FixedZone("east", 3600)
	for text, want := range map[string]time.Time{
		"20300102":        time.Date(2030, 1, 2, 0, 0, 0, 0, zone),
		"20300102Z":       time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC),
		"203001021504":    time.Date(2030, 1, 2, 15, 4, 0, 0, zone),
		"20300102150405":  time.Date(2030, 1, 2, 15, 4, 5, 0, zone),
		"20300102150405Z": time.Date(2030, 1, 2, 15, 4, 5, 0, time.UTC),
	} {
		if at, err := parseExpiry(text, zone); err != nil || !at.Equal(want) {
			t.Errorf("%q: %v, %v", text, at, err)
		}
	}
	for _, text := range []string{"", "Z", "2030", "2030010215", "20300102T1504", "20301301", "20300102250000", "+2030010", "20300102z"} {
		if at, err := parseExpiry(text, zone); err == nil {
			t.Errorf("%q: %v", text, at)
		}
	}
}

// TestTheFirstLineThatAppliesCounts: a key may have lines for several places.
func TestTheFirstLineThatAppliesCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(time.Hour).UTC().Format("200601021504") + "Z"
		a := fileOf(t, "",
			`expiry-time="`+at+`" `+edLine+" soon gone",
			`from="10.0.0.0/8",permitopen="a:1" `+edLine+" inside",
			`from="192.0.2.0/24" `+edLine+" outside",
			`command="true" `+edLine2,
			edLine2)
		ask := func(from string) string {
			g, ok := a.Authorize(parsed(t, edLine), netip.MustParseAddr(from))
			if again, okAgain := a.Recheck(parsed(t, edLine), netip.MustParseAddr(from)); okAgain != ok || !reflect.DeepEqual(again, g) {
				t.Errorf("%s: %+v, then %+v", from, g, again)
			}
			return g.Comment
		}
		if got := ask("10.1.1.1"); got != "soon gone" {
			t.Error(got)
		}
		time.Sleep(time.Hour + time.Minute)
		for from, want := range map[string]string{"10.1.1.1": "inside", "192.0.2.7": "outside", "198.51.100.1": ""} {
			if got := ask(from); got != want {
				t.Errorf("%s: line %q, want %q", from, got, want)
			}
		}
		if _, ok := a.Authorize(parsed(t, edLine2), addr); ok {
			t.Error("a forced command was shaken off by a second line")
		}
	})
}

// TestWhoIsInStaysForAMomentAndNobodyNewComesIn while the file is away.
func TestWhoIsInStaysForAMomentAndNobodyNewComesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := fileOf(t, "", edLine)
		key := parsed(t, edLine)
		expect := func(in, again bool) {
			t.Helper()
			v := a.Version()
			if _, ok := a.Authorize(key, addr); ok != in {
				t.Errorf("authorized %v", ok)
			}
			if _, ok := a.Recheck(key, addr); ok != again {
				t.Errorf("at a recheck %v", ok)
			}
			if a.Version() != v {
				t.Error("another version without a change")
			}
		}
		expect(true, true)
		before := a.Version()
		must(t, os.Rename(a.path, a.path+".away"))
		expect(false, true)
		time.Sleep(graceTime - time.Millisecond)
		expect(false, true)
		gone := a.Version()
		time.Sleep(time.Millisecond)
		if gone == before || a.Version() == gone {
			t.Error("the version does not tell")
		}
		expect(false, false)
		must(t, os.Rename(a.path+".away", a.path))
		expect(true, true)
		time.Sleep(time.Minute)

		// Another list: it counts for newcomers now, and for all when it has stood.
		a.Version()
		must(t, os.WriteFile(a.path, []byte(edLine2), 0o600))
		expect(false, true)
		time.Sleep(settleTime)
		expect(false, false)

		// A file that never stands still holds nothing up for longer than the grace.
		must(t, os.WriteFile(a.path, []byte(edLine), 0o600))
		time.Sleep(time.Minute)
		expect(true, true)
		start := time.Now()
		for i := range 60 {
			must(t, os.WriteFile(a.path, []byte(strings.Repeat("#", i)+"\n"+edLine2), 0o600))
			a.Version()
			if _, ok := a.Recheck(key, addr); !ok {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > graceTime+time.Second {
			t.Errorf("held up for %v", d)
		}
	})
}

// TestAHugeFileIsReadInSecondsAndBoundedMemory also bounds how long a handshake
// may wait for it.
func TestAHugeFileIsReadInSecondsAndBoundedMemory(t *testing.T) {
	const lines = 100_000
	var b strings.Builder
	blob := make([]byte, 32)
	for i := range lines {
		blob[0], blob[1], blob[2], blob[3] = byte(i), byte(i>>8), byte(i>>16), 1
		b.WriteString(`from="10.0.0.0/8" ssh-ed25519 `)
		b.WriteString(b64(ssh.Marshal(struct{ Type, Key string }{"ssh-ed25519", string(blob)})))
		b.WriteByte('\n')
	}
	path := filepath.Join(privateDir(t), "authorized_keys")
	writeFile(t, path, b.String(), 0o600)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	a := NewAuthorizedKeys(path, "", nil)
	a.Authorize(parsed(t, edLine), addr)
	d := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	size := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d lines, %d bytes: read in %v, %d bytes of memory", lines, b.Len(), d, size)
	if n := a.table.accepted(); n != lines {
		t.Errorf("%d keys", n)
	}
	if d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	if size > 100<<20 {
		t.Errorf("takes %d bytes", size)
	}
}

func FuzzFrom(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8,!10.1.*", "*", "!x,*", "::ffff:1.2.3.4/120", "a,,b", "!", "1.2.3.?", "2001:DB8::/32"} {
		f.Add(s, []byte{10, 1, 2, 3})
		f.Add(s, netip.MustParseAddr("2001:db8::1").AsSlice())
	}
	f.Fuzz(func(t *testing.T, list string, raw []byte) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if checkFrom(list) != nil {
			return
		}
		got := fromMatches(list, a)
		matched := false
		for s := range strings.SplitSeq(list, ",") {
			s, negated := strings.CutPrefix(s, "!")
			var hit bool
			if p, err := netip.ParsePrefix(s); err == nil { // as netip says
				hit = p.Contains(a.Unmap()) || p.Contains(netip.AddrFrom16(a.As16()))
			} else if one, err := netip.ParseAddr(s); err == nil {
				hit = one.Unmap() == a.Unmap()
			} else if negated && !strings.ContainsAny(s, "*?") {
				continue // an odd way to write an address
			} else {
				hit = MatchPattern(strings.ToLower(s), a.Unmap().String())
			}
			if hit && negated && got {
				t.Fatalf("%q matches %s, which %q excludes", list, a, s)
			}
			matched = matched || hit && !negated
		}
		if got && !matched {
			t.Fatalf("%q matches %s, and none of its patterns does", list, a)
		}
		// To exclude more never lets more in.
		if fromMatches(list+",!"+a.Unmap().String(), a) {
			t.Fatalf("%q matches %s, which is excluded", list, a)
		}
	})
}

func FuzzPermitOpen(f *testing.F) {
	for _, s := range []string{"a:22", "*:*", "*", "[::1]:22", "a:", ":1", "a:65536", "[a]:1", "A.b:*", "::1:1", "a*:1"} {
		f.Add(s, "a", uint16(22))
	}
	f.Fuzz(func(t *testing.T, s, host string, port uint16) {
		p, err := parsePermitOpen(s)
		if err != nil {
			return
		}
		again, err := parsePermitOpen(p.String())
		if err != nil || again != p {
			t.Fatalf("%q is %+v, and comes back as %+v, %v", s, p, again, err)
		}
		want := (p.Host == "*" || strings.EqualFold(p.Host, host)) && (p.Port == 0 || p.Port == port)
		if got := (&Grant{PermitOpen: []PermitOpen{p}}).Permits(host, port) == nil; got != want {
			t.Fatalf("%q: %s:%d %v", s, host, port, got)
		}
	})
}

func TestPatternsMatchInReasonableTime(t *testing.T) {
	// A matcher that goes back to every asterisk would need ages for this.
	if MatchPattern(strings.Repeat("*a", 60), strings.Repeat("a", 250)+"b") {
		t.Error("matched")
	}
	for _, tt := range []struct {
		glob, s string
		want    bool
	}{
		{"*", "", true},
		{"**", "a", true},
		{"?", "", false},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYbZ", false},
		{"*.b", "a.b.b", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"", "", true},
	} {
		if got := MatchPattern(tt.glob, tt.s); got != tt.want {
			t.Errorf("%q matches %q: got %v", tt.glob, tt.s, got)
		}
	}
}
