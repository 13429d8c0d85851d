package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// testEnv is the environment of a person without a runtime directory.
func testEnv(key string) string { return map[string]string{"HOME": "/home/me"}[key] }

func TestEveryMistakeIsNamedWithFileLineAndKey(t *testing.T) {
	const (
		patterns = "write NAME:PORTS with * and ? in the name, CIDR:PORTS, [IPV6-CIDR]:PORTS or localhost:PORTS"
		relays   = "write HOST, HOST:PORT, [IPV6]:PORT, direct or embedded"
		trusts   = "write accept-new, strict, SHA256:… or a list of two SHA256:…"
		sizes    = "write a whole number and one of B, KiB, MiB, GiB, such as 4MiB"
		expands  = "only ~/, $HOME and $XDG_RUNTIME_DIR at the start of a path are replaced"
	)
	// What stands after the file's name, a line for each complaint.
	want := map[string][]string{
		"not-yaml":        {":2: not valid YAML: sequence end token ']' not found"},
		"tab":             {`:2: not valid YAML: found character '\t' that cannot start any token`},
		"not-a-mapping":   {":1: a list where a section belongs; write its keys: proxy, relay"},
		"two-documents":   {":4: a second document; one file holds one"},
		"unknown-section": {":1: proxi: unknown key; did you mean proxy?"},
		"unknown-key":     {":4: proxy.heartbeat.intervall: unknown key; did you mean interval?"},
		"unknown-key-far": {":3: relay.session.colour: unknown key; known here: buffer, window"},
		"unknown-key-flow": {
			":3: proxy.heartbeat.timeuot: unknown key; did you mean timeout?",
		},
		"key-twice":           {":4: proxy.relay: given twice; the first is on line 2"},
		"listen-everyone":     {`:2: proxy.listen[0]: "0.0.0.0:1080" is not a loopback address, and whoever reaches it uses your keys; write 127.0.0.1:PORT, or allow_remote: true`},
		"forward-no-target":   {`:3: proxy.forwards[0].target: target "": missing port in address; write HOST:PORT`},
		"forwards-not-list":   {`:2: proxy.forwards: a text where a list belongs; write [{listen: "127.0.0.1:2222", target: "db.internal:22"}]`},
		"bool-not-bool":       {`:2: proxy.allow_other_users: a text where true or false belongs`},
		"admin-no-port":       {`:2: relay.admin: "localhost" is not an address to listen on; write :PORT, HOST:PORT or [IPV6]:PORT`},
		"key-not-text":        {":2: proxy: a number where a key belongs; known here: relay, fallback, known_relays, trust, identity, socket, listen, allow_remote, socks_user, allow_other_users, forwards, heartbeat, session, link, admin, log"},
		"section-is-text":     {":2: proxy.heartbeat: a text where a section belongs; write its keys: interval, timeout, count_max"},
		"section-is-list":     {":2: relay.limits: a list where a section belongs; write its keys: links, handshakes, handshake_timeout, links_per_key, opens_per_second, dials_per_key, sessions_per_link, sessions_per_key, memory"},
		"no-value":            {":2: relay.allow: has no value; write one or remove the key"},
		"no-value-trust":      {":2: proxy.trust: has no value; write one or remove the key"},
		"text-is-number":      {":2: proxy.relay: a number where a text belongs; put it in quotes"},
		"text-is-list":        {":2: relay.key: a list where a text belongs; write one text"},
		"text-is-boolean":     {":2: relay.state: true or false where a text belongs; put it in quotes"},
		"list-is-text":        {":2: relay.allow: a text where a list belongs; write [a, b] or lines that begin with a dash"},
		"list-item-is-number": {":4: relay.allow[1]: a number where a text belongs; put it in quotes"},
		"integer-is-text":     {":2: proxy.heartbeat.count_max: a text where a whole number belongs; write it in digits"},
		"integer-is-fraction": {":2: proxy.heartbeat.count_max: a number where a whole number belongs; write it in digits"},
		"integer-too-large":   {":2: relay.limits.links: 99999999999 is not a whole number that can be used; write 0 to 2147483647 in digits"},
		"alias":               {":2: proxy.relay: an anchor or alias where a text belongs; write one text", ":4: relay.key: an anchor or alias where a text belongs; write one text"},
		"merge":               {":3: proxy.heartbeat: an anchor or alias where a key belongs; known here: interval, timeout, count_max"},
		"tag":                 {":2: proxy.relay: a tag where a text belongs; write one text"},
		"duration-no-unit":    {":3: proxy.heartbeat.interval: 20 has no unit; write 20s if seconds are meant"},
		"duration-negative":   {`:3: proxy.heartbeat.interval: "-20s" is negative; 0 means off`},
		"duration-nonsense":   {`:2: relay.target_keepalive: "soon" is not a duration; write a number and a unit such as 100ms, 20s, 5m or 1h30m`},
		"size-no-unit":        {":2: proxy.session.buffer: 4194304 has no unit; " + sizes},
		"size-decimal-unit":   {`:2: proxy.session.buffer: "4MB" is not a size; ` + sizes},
		"size-negative":       {`:2: proxy.session.buffer: "-1MiB" is negative; ` + sizes},
		"interval-short":      {":2: proxy.heartbeat.interval: 99ms is too short; write 0 for off, or at least 100ms"},
		"keys-command":        {`:2: relay.authorized_keys_command: "fetch-keys" is not an absolute path`},
		"keys-command-token":  {`:2: relay.authorized_keys_command: "--user=%u": after % comes k (the key), t (its type), f (its fingerprint) or another %`},
		"timeout-zero":        {":2: relay.heartbeat.timeout: 0s is too short; write at least 100ms"},
		"count-max-negative":  {":3: relay.heartbeat.count_max: -1 is negative; write 0 for never lost, or a number of misses"},
		"buffer-small":        {":3: relay.session.buffer: 63KiB is out of range; write 64KiB to 64MiB"},
		"buffer-large":        {":3: proxy.session.buffer: 65MiB is out of range; write 64KiB to 64MiB"},
		"relay-port":          {`:2: proxy.relay: "relay.example.com:0": "0" is not a port; ports are 1 to 65535`},
		"relay-port-empty":    {`:2: proxy.relay: "relay.example.com:": "" is not a port; ports are 1 to 65535`},
		"relay-ipv6":          {":2: proxy.relay: an IPv6 address stands in brackets; write [2001:db8::1] or [2001:db8::1]:7422"},
		"relay-user":          {`:2: proxy.relay: "me@relay.example.com" names a user, and a relay has none; ` + relays},
		"relay-scheme":        {`:2: proxy.relay: "wss://relay.example.com/path": SCHEME://… is reserved for other transports; ` + relays},
		"relay-space":         {`:2: proxy.relay: "relay example" is not a host; ` + relays},
		"fallback":            {`:2: proxy.fallback: "maybe" is not known; write none or direct`},
		"trust":               {`:2: proxy.trust: "always" is not known; ` + trusts},
		"trust-pin":           {`:2: proxy.trust: "SHA256:abc" is not a fingerprint; write SHA256: and 43 characters, as sshka-relay fingerprint prints it`},
		"trust-pins":          {":2: proxy.trust: a list of 3; " + trusts},
		"trust-mixed":         {`:2: proxy.trust: "strict" is not known; ` + trusts},
		"known-relays-empty":  {":2: proxy.known_relays: is empty; name a file"},
		"path-variable":       {`:2: proxy.known_relays: "$CONFIG/known_relays": ` + expands},
		"path-unset":          {`:2: relay.state: "$XDG_RUNTIME_DIR/sshka" needs $XDG_RUNTIME_DIR, which is not set; write the whole path`},
		"path-user":           {`:4: proxy.identity[1]: "~root/.ssh/id_rsa": ` + expands},
		"listen-empty":        {`:2: relay.listen: is empty; name at least one address, such as ":7422"`},
		"listen":              {`:4: relay.listen[1]: "7422" is not an address to listen on; write :PORT, HOST:PORT or [IPV6]:PORT`},
		"listen-port":         {`:2: relay.listen[0]: ":65536": "65536" is not a port; ports are 0 to 65535`},
		"listen-host":         {`:2: relay.listen[0]: "a b" is not a host; write :PORT, HOST:PORT or [IPV6]:PORT`},
		"allow":               {`:4: relay.allow[1]: "10.1.2.3": it has no port; end it with :22, :22-23 or :*`},
		"deny":                {`:3: relay.deny[0]: "10.0.0.0/33:22": "10.0.0.0/33" is not an address and not a CIDR; ` + patterns},
		"keepalive-short":     {":2: relay.target_keepalive: 500ms is too short; write 0 for off, or at least 1s"},
		"limit-zero":          {":3: relay.limits.links: 0 is not a limit; write 1 or more"},
		"limit-handshakes":    {":3: relay.limits.handshakes: -1 is not a limit; write 1 or more"},
		"limit-sessions":      {":3: relay.limits.sessions_per_link: 0 is not a limit; write 1 or more"},
		"limit-handshake-timeout": {
			":3: relay.limits.handshake_timeout: 0 would refuse everybody; write a duration such as 10s",
		},
		"log-level":  {`:2: proxy.log.level: "verbose" is not known; write debug, info, warn or error`},
		"log-format": {`:2: relay.log.format: "xml" is not known; write auto, text or json`},
		"several": {
			`:2: proxy.relay: "a:b": "b" is not a port; ports are 1 to 65535`,
			":3: proxy.fallbak: unknown key; did you mean fallback?",
			":5: proxy.heartbeat.interval: 20 has no unit; write 20s if seconds are meant",
			":6: proxy.heartbeat.timeout: 1ms is too short; write at least 100ms",
			`:8: relay.allow[0]: "*": it has no port; end it with :22, :22-23 or :*`,
			`:9: relay.deny[1]: "y:0": "0" is not a port; write 22, 22-23 or * with ports from 1 to 65535`,
		},
	}
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "invalid-"), ".yaml")
		lines, ok := want[name]
		if !ok {
			t.Errorf("%s: no message is expected of it", file)
			continue
		}
		delete(want, name)
		f, err := Load(file, testEnv)
		if err == nil {
			t.Errorf("%s: accepted: %+v", file, f)
			continue
		}
		if expected := file + strings.Join(lines, "\n"+file); err.Error() != expected {
			t.Errorf("%s:\n got %s\nwant %s", name, err, expected)
		}
		var e *Error
		if !errors.As(err, &e) || e.File != file || e.Line == 0 || e.Column == 0 {
			t.Errorf("%s: got %#v", name, e)
		}
	}
	for name := range want {
		t.Errorf("testdata/invalid-%s.yaml is missing", name)
	}
}

func TestEverythingCanBeSet(t *testing.T) {
	env := func(key string) string {
		return map[string]string{"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/me"}[key]
	}
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("testdata/full.yaml", data, env) // Load would find it open to others
	if err != nil {
		t.Fatal(err)
	}
	const second = Duration(time.Second)
	wantProxy := Proxy{
		Relay:       "relay.example.com:7422",
		Fallback:    FallbackDirect,
		KnownRelays: "/run/me/known_relays",
		Trust: Trust{Pins: []string{
			"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		}},
		Identity:  []string{"agent", "/home/me/.ssh/work", "/etc/keys/host", "relative"},
		Heartbeat: Heartbeat{Interval: 0, Timeout: second / 10, CountMax: 0},
		Session:   Session{Buffer: 64 * KiB},
		Log:       Log{Level: -4, Format: FormatJSON},

		Socket:          "/run/me/s",
		Listen:          []string{"[::1]:1", "localhost:2"},
		AllowOtherUsers: true,
		AllowRemote:     true,
		SocksUser:       Login{"me", "secret:word"},
		Forwards:        []Forward{{"127.0.0.1:3", "db:22"}, {"[::1]:4", "[2001:db8::1]:5"}},
		Admin:           "0.0.0.0:6",
		Link:            Link{MaxAge: 25 * 60 * second},
	}
	wantRelay := Relay{
		Listen:         []string{":7422", "[::1]:0"},
		Key:            "/home/me/relay_key",
		State:          "/var/lib/sshka",
		AuthorizedKeys: "/etc/sshka/authorized_keys",

		AuthorizedKeysCommand: []string{"/usr/bin/fleet-keys", "%f"},

		Allow:           []string{"10.0.0.0/8:22"},
		Deny:            []string{"prod-*:*"},
		TargetKeepalive: 0,
		Heartbeat:       Heartbeat{Interval: 90 * second, Timeout: 30 * second, CountMax: 5},
		Session:         RelaySession{Buffer: 64 * MiB, Window: 90 * second},
		Limits:          Limits{Links: 1, Handshakes: 2, HandshakeTimeout: 3 * second, LinksPerKey: 6, OpensPerSecond: 7, DialsPerKey: 8, SessionsPerLink: 4, SessionsPerKey: 5, Memory: Memory(2 * GiB)},
		Drain:           600 * second,
		Admin:           "",
		Log:             Log{Level: 8, Format: FormatText},
	}
	if !reflect.DeepEqual(f.Proxy, wantProxy) {
		t.Errorf("proxy:\n got %+v\nwant %+v", f.Proxy, wantProxy)
	}
	if !reflect.DeepEqual(f.Relay, wantRelay) {
		t.Errorf("relay:\n got %+v\nwant %+v", f.Relay, wantRelay)
	}
	for path, want := range map[string]int{
		"proxy": 2, "proxy.relay": 3, "proxy.trust": 6, "proxy.trust[1]": 8, "proxy.heartbeat.timeout": 10,
		"relay.allow": 32, "relay.allow[0]": 32, "relay.allow[7]": 32, "relay.limits.nothing": 38, "proxy.forwards[1].target": 23,
	} {
		if got := f.At(path); got.Line != want || got.Column == 0 || got.File != "testdata/full.yaml" {
			t.Errorf("%s is at %+v, want line %d", path, got, want)
		}
	}
	cause := errors.New("connection refused")
	complaint := f.Errorf("proxy.relay", "cannot be reached: %w", cause)
	if got, want := complaint.Error(), "testdata/full.yaml:3: proxy.relay: cannot be reached: connection refused"; got != want || !errors.Is(complaint, cause) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWithoutAFileThereAreDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "proxy:\nrelay:\n", "proxy: {}\n", "proxy:\n  heartbeat:\n"} {
		f, err := Parse("x.yaml", []byte(text), testEnv)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		want := Defaults()
		want.Proxy.KnownRelays = "/home/me/.config/sshka/known_relays"
		want.Proxy.Socket = "/home/me/.cache/sshka/proxy.sock"
		want.Proxy.Identity = []string{"agent", "/home/me/.ssh/id_ed25519", "/home/me/.ssh/id_ecdsa", "/home/me/.ssh/id_rsa"}
		if !reflect.DeepEqual(f.Proxy, want.Proxy) || !reflect.DeepEqual(f.Relay, want.Relay) {
			t.Errorf("%q:\n got %+v\nwant %+v", text, f, want)
		}
	}
	f, err := Load("", func(string) string { return "" })
	if err != nil {
		t.Fatalf("without a home: %v", err)
	}
	if f.Proxy.KnownRelays != "" || !reflect.DeepEqual(f.Proxy.Identity, []string{"agent"}) || f.Name() != "" {
		t.Errorf("without a home: %+v", f.Proxy)
	}
	if got := f.At("proxy.relay"); got != (Position{}) {
		t.Errorf("a key in no file is at %v", got)
	}
	if got := f.Errorf("proxy.relay", "no relay set").Error(); got != "proxy.relay: no relay set" {
		t.Errorf("got %q", got)
	}
}

func TestAnEmptyFileNameOfAKeyMeansItsPlace(t *testing.T) {
	f, err := Parse("x.yaml", []byte("proxy: {relay: ''}\nrelay: {key: '', state: '', authorized_keys: '', allow: [], deny: []}\n"), testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if f.Relay.Key != "" || f.Proxy.Relay != "" || len(f.Relay.Allow) != 0 {
		t.Errorf("got %+v", f)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	_, err := Load(missing, testEnv)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), missing+": read the configuration: ") || strings.Count(err.Error(), missing) != 1 {
		t.Errorf("missing: %v", err)
	}
	if _, err := Load(dir, testEnv); err == nil || !strings.HasPrefix(err.Error(), dir+": read the configuration: ") {
		t.Errorf("a directory: %v", err)
	}
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(huge, testEnv); err == nil || err.Error() != huge+": read the configuration: more than 262144 bytes" {
		t.Errorf("huge: %v", err)
	}
}

func TestUnknownKeysGetTheNearestKnownOne(t *testing.T) {
	known := []string{"interval", "timeout", "count_max", "log"}
	for key, want := range map[string]string{
		"intervall": "did you mean interval?",
		"itnerval":  "did you mean interval?",
		"Interval":  "did you mean interval?",
		"countmax":  "did you mean count_max?",
		"lg":        "did you mean log?",
		"log":       "did you mean log?",
		"":          "known here: interval, timeout, count_max, log",
		"colour":    "known here: interval, timeout, count_max, log",

		strings.Repeat("interval", 9): "known here: interval, timeout, count_max, log",
	} {
		if got := suggest(key, known); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("x.yaml", []byte(text), testEnv)
		if err == nil {
			if h := file.Proxy.Heartbeat; h.Interval < 0 || h.Timeout < minBeat || h.CountMax < 0 {
				t.Errorf("accepted %+v", h)
			}
			if l := file.Relay.Limits; l.Links <= 0 || l.Handshakes <= 0 || l.SessionsPerLink <= 0 || l.HandshakeTimeout <= 0 {
				t.Errorf("accepted %+v", l)
			}
			if len(file.Relay.Listen) == 0 {
				t.Error("accepted a relay that listens nowhere")
			}
			return
		}
		complaints := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			complaints = joined.Unwrap()
		}
		for _, c := range complaints {
			var e *Error
			if !errors.As(c, &e) || e.File != "x.yaml" || e.Msg == "" {
				t.Fatalf("%#v names no file", c)
			}
			if s := c.Error(); !strings.HasPrefix(s, "x.yaml:") || strings.ContainsAny(s, "\n\r\x00\x1b") {
				t.Fatalf("%q is not one clean line that begins with the file", s)
			}
			if lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1; e.Line > lines {
				t.Fatalf("line %d of %d: %v", e.Line, lines, e)
			}
		}
	})
}

func TestWhoMayTouchAConfiguration(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes here")
	}
	for _, tt := range []struct {
		mode fs.FileMode
		text string
		want string // of the error; "" none
	}{
		{0o644, "proxy: {relay: r}", ""},
		{0o664, "proxy: {relay: r}", ""}, // a group of one's own, on many systems
		{0o666, "proxy: {relay: r}", "FILE: everybody can write to it (mode 0666): chmod o-w FILE"},
		{0o600, "proxy: {socks_user: 'me:secret'}", ""},
		{0o640, "proxy: {socks_user: 'me:secret'}", "FILE:1: proxy.socks_user: holds a password, and others can read this file (mode 0640): chmod 600 FILE"},
		{0o600, "proxy: {socks_user: secret}", "FILE:1: proxy.socks_user: not a login; write NAME:PASSWORD"},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, testEnv)
		if got := strings.ReplaceAll(fmt.Sprint(err), file, "FILE"); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
			t.Errorf("%04o %s:\n got %s\nwant %s", tt.mode, tt.text, got, tt.want)
		}
	}
}
