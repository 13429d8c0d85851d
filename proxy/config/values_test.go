package config

import (
	"strings"
	"testing"
	"time"
)

func TestDurationsCarryUnits(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "20s": 20 * time.Second, "1h30m": 90 * time.Minute, "100ms": 100 * time.Millisecond, "1.5h": 90 * time.Minute,
	} {
		if got, err := ParseDuration(s); err != nil || time.Duration(got) != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"20": "no unit", "00": "no unit", "-1s": "negative", "-0": "negative", "+1s": "not a duration", "": "not a duration",
		"1d": "not a duration", "1 s": "not a duration", "999999999h": "not a duration", "1.5": "not a duration",
	} {
		if got, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", s, got, err, want)
		}
	}
}

func TestSizesCarryUnits(t *testing.T) {
	for s, want := range map[string]Size{
		"0": 0, "0MiB": 0, "1B": 1, "64KiB": 65536, "4MiB": 4 << 20, "2GiB": 2 << 30, "1536B": 1536, "9223372036854775807B": 1<<63 - 1,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"4": "no unit", "-4MiB": "negative", "": "not a size", "MiB": "not a size", "4MB": "not a size", "4mib": "not a size",
		"4 MiB": "not a size", "1.5MiB": "not a size", "+4MiB": "not a size", "9223372036854775808B": "too large", "8589934592GiB": "too large",
	} {
		if got, err := ParseSize(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", s, got, err, want)
		}
	}
	if got := (1536 * KiB).String(); got != "1536KiB" {
		t.Errorf("got %s", got)
	}
}

func TestAWrongTextLeavesAValueAlone(t *testing.T) {
	d, n, l, f := seconds(1), MiB, Level(4), FormatJSON
	for _, v := range []interface{ UnmarshalText(b []byte) error }{&d, &n, &l, &f} {
		if err := v.UnmarshalText([]byte("wrong")); err == nil {
			t.Errorf("%T accepts anything", v)
		}
	}
	if d != seconds(1) || n != MiB || l != 4 || f != FormatJSON {
		t.Errorf("changed to %v %v %v %v", d, n, l, f)
	}
	if l.String() != "warn" {
		t.Errorf("got %s", l)
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"0", "20s", "1h30m", "-1s", "1.5h", "9223372036s", "1µs", "00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", s, d)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q is %v, which is %v, %v", s, d, again, err)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "4MiB", "64KiB", "1B", "-1B", "8589934591GiB", "0x10B", "00KiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 || n > 0 && !strings.HasSuffix(s, "B") {
			t.Fatalf("%q is %d", s, n)
		}
		if again, err := ParseSize(n.String()); err != nil || again != n {
			t.Fatalf("%q is %v, which is %v, %v", s, n, again, err)
		}
	})
}

func TestMemoryIsAutoOrEnough(t *testing.T) {
	for s, want := range map[string]Memory{"auto": 0, "16MiB": Memory(16 * MiB), "2GiB": Memory(2 * GiB)} {
		var m Memory
		if err := m.UnmarshalText([]byte(s)); err != nil || m != want || m.String() != s {
			t.Errorf("%s: got %s, %v", s, m, err)
		}
	}
	for s, want := range map[string]string{"0": "too little", "15MiB": "at least 16MiB, or auto", "1000": "no unit", "all": "or auto"} {
		var m Memory
		if err := m.UnmarshalText([]byte(s)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}
