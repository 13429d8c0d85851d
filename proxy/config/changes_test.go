package config

import (
	"slices"
	"testing"
)

func TestChangesNamesEveryKeyThatDiffers(t *testing.T) {
	parse := func(text string) *File {
		t.Helper()
		f, err := Parse("x.yaml", []byte(text), testEnv)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const before = "proxy:\n  relay: a\n  heartbeat: {interval: 20s, timeout: 2s}\nrelay:\n  allow: [\"*:22\"]\n  deny: []\n"
	for _, tt := range []struct {
		section, after string
		want           []string
	}{
		{"proxy", before, nil},
		{"relay", before, nil},
		{"relay", "relay:\n  allow: [\"*:22\"]\n", nil}, // an empty list is none
		{"relay", "relay:\n  limits: {memory: 1GiB}\n  drain: 1m\n", []string{"relay.allow", "relay.limits.memory", "relay.drain"}},
		{"proxy", "proxy:\n  relay: b\n  trust: strict\n  heartbeat: {timeout: 2s}\n  log: {level: debug}\n", []string{"proxy.relay", "proxy.trust", "proxy.log.level"}},
		{"proxy", "proxy:\n  relay: a\n  heartbeat: {timeout: 2s}\n  socks_user: \"me:x\"\n  forwards: [{listen: \"127.0.0.1:1\", target: \"a:1\"}]\n", []string{"proxy.socks_user", "proxy.forwards"}},
		{"neither", "", nil},
	} {
		if got := Changes(tt.section, parse(before), parse(tt.after)); !slices.Equal(got, tt.want) {
			t.Errorf("%s of %q: %q, want %q", tt.section, tt.after, got, tt.want)
		}
	}
}
