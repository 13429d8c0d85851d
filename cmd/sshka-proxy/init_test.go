package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/config"
)

// TestTheConfigurationOfInitIsTheExample: go:embed does not reach up, so that there is
// a copy.
func TestTheConfigurationOfInitIsTheExample(t *testing.T) {
	example, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	part, _, found := strings.Cut(string(example), "\nrelay:\n")
	if !found || exampleConfig != part {
		t.Error("init_config.yaml is not the proxy's part of config.example.yaml: make example")
	}
}

func env(key string) string { return map[string]string{"HOME": "/home/me"}[key] }

func TestInitWritesEveryKeyAsACommentAndSetsTheRelay(t *testing.T) {
	for _, relay := range []string{"relay.example.com:7422", "[2001:db8::1]:7500"} {
		text := configFor(relay)
		f, err := config.Parse("c.yaml", []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		defaults, err := config.Parse("", nil, env)
		if err != nil {
			t.Fatal(err)
		}
		if f.Proxy.Relay != relay || f.Given("proxy.admin") || f.Given("proxy.identity") || f.Given("proxy.heartbeat") {
			t.Errorf("%s: %+v", relay, f.Proxy)
		}
		f.Proxy.Relay = ""
		if got, want := fmt.Sprintf("%+v", f.Proxy), fmt.Sprintf("%+v", defaults.Proxy); got != want {
			t.Errorf("\nwritten  %s\ndefaults %s", got, want)
		}
		// Each key works without its #.
		var on []string
		for _, line := range strings.Split(text, "\n") {
			if key, ok := strings.CutPrefix(line, "  #"); ok && !strings.HasPrefix(key, " ") || strings.HasPrefix(line, "  #  ") {
				line = "  " + key
			}
			on = append(on, line)
		}
		f, err = config.Parse("c.yaml", []byte(strings.Join(on, "\n")), func(string) string { return "/x" })
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"fallback", "socket", "admin", "heartbeat.count_max", "log.format", "socks_user"} {
			if !f.Given("proxy." + key) {
				t.Errorf("proxy.%s is not shown", key)
			}
		}
	}
}

func TestWhereInitGoes(t *testing.T) {
	for _, tt := range []struct {
		operand, port string
		ssh, relay    string
		err           string
	}{
		{operand: "relay.test", ssh: "relay.test", relay: "relay.test:7422"},
		{operand: "me@relay.test", ssh: "me@relay.test", relay: "relay.test:7422"},
		{operand: "me@corp@relay.test:7500", ssh: "me@corp@relay.test", relay: "relay.test:7500"},
		{operand: "relay.test", port: "7500", ssh: "relay.test", relay: "relay.test:7500"},
		{operand: "relay.test:7500", port: "7500", ssh: "relay.test", relay: "relay.test:7500"},
		{operand: "[2001:db8::1]", ssh: "2001:db8::1", relay: "[2001:db8::1]:7422"},
		{operand: "relay.test:7500", port: "7501", err: "relay.test:7500 says port 7500 and --port says 7501: leave one out"},
		{operand: "relay.test", port: "ssh", err: `"relay.test:ssh": "ssh" is not a port; ports are 1 to 65535`},
		{operand: "2001:db8::1", err: "an IPv6 address stands in brackets; write [2001:db8::1] or [2001:db8::1]:7422"},
		{operand: "-oProxyCommand=date", err: `"-oProxyCommand=date" is not a host`},
		{operand: "-l@relay.test", err: `"-l" is not a user's name`},
		{operand: "a b@relay.test", err: `"a b" is not a user's name`},
		{operand: "@relay.test", err: `"" is not a user's name`},
		{operand: "relay.test;date", err: `"relay.test;date" is not a host; write HOST, HOST:PORT, [IPV6]:PORT`},
		{operand: "direct", err: `"direct" is not a host; for a relay of that kind write relay: direct into the configuration`},
		{operand: "https://relay.test", err: `"https://relay.test": SCHEME://… is reserved for other transports; write HOST, HOST:PORT, [IPV6]:PORT`},
	} {
		d, err := parseDestination(tt.operand, tt.port)
		if got := fmt.Sprint(err); tt.err != "" && got != tt.err || tt.err == "" && err != nil {
			t.Errorf("%s: %s", tt.operand, got)
			continue
		}
		if tt.err == "" && (d.destination() != tt.ssh || d.relay != tt.relay) {
			t.Errorf("%s: ssh to %s, relay %s", tt.operand, d.destination(), d.relay)
		}
	}
}

// TestTheBlocksOfInit: what a person copies, word for word.
func TestTheBlocksOfInit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths are others")
	}
	plain := blocks{
		hosts: []string{"relay.example.com"}, patterns: []string{"*.internal"}, own: sshd{"localhost", "%p"},
		program: "/usr/local/bin/sshka-proxy", socks: "127.0.0.1:1080",
	}
	with := func(change func(*blocks)) *blocks {
		b := plain
		change(&b)
		return &b
	}
	for name, b := range map[string]*blocks{
		"systemd": with(func(b *blocks) { b.service = serviceSystemd }),
		"launchd": with(func(b *blocks) { b.service, b.program = serviceLaunchd, "/Users/a & b/sshka-proxy" }),
		"windows": with(func(b *blocks) { b.service, b.program = serviceWindows, "/c/Program Files/sshka-proxy.exe" }),
		"plain": with(func(b *blocks) {
			b.hosts, b.own, b.fdpass, b.login, b.socks = []string{"alias", "198.51.100.10"}, sshd{"10.0.0.5", "2222"}, true, "me", "[::1]:1081"
			b.program, b.config = "/opt/it's 100%/sshka-proxy", "/etc/a b.yaml"
		}),
	} {
		file := filepath.Join("testdata", "init-"+name+".golden")
		want, err := os.ReadFile(file)
		if os.Getenv("SSHKA_GOLDEN") == "write" {
			err = os.WriteFile(file, []byte(b.text()), 0o600)
			want = []byte(b.text())
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := b.text(); got != string(want) {
			t.Errorf("%s: printed\n%s\nwant\n%s", file, got, want)
		}
	}
}

// TestTheTaskOfTheDocumentationIsThatOfInit: the lines of docs/clients.md.
func TestTheTaskOfTheDocumentationIsThatOfInit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths are others")
	}
	page, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines((&blocks{program: "/Program Files/sshka/sshka-proxy.exe"}).windowsLines()) {
		if !strings.HasPrefix(line, "schtasks ") {
			continue
		}
		lines++
		line = strings.ReplaceAll(line, "/Program Files/sshka/", `C:\Program Files\sshka\`)
		if !strings.Contains(string(page), "    "+line) {
			t.Errorf("docs/clients.md has no line\n    %s", line)
		}
	}
	if lines != 2 {
		t.Errorf("init prints %d lines for schtasks", lines)
	}
}

func TestTheHostsOfABlockAreWhatIsAllowed(t *testing.T) {
	got := hostPatterns([]string{"localhost:22", "*:22", "10.0.0.0/8:22", "[fd00::/8]:22", "*.corp:22-23", "db?:*"})
	if strings.Join(got, " ") != "*.corp db?" {
		t.Errorf("%q", got)
	}
}

func TestQuoting(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("another shell")
	}
	for word, want := range map[string]string{
		"/usr/bin/sshka-proxy": "/usr/bin/sshka-proxy", "/a b": "'/a b'", "/100%": "/100%%", "/it's": `'/it'\''s'`, "$(date)": "'$(date)'", "`x`": "'`x`'",
	} {
		if got := quoteSSH(word); got != want {
			t.Errorf("%s: %s", word, got)
		}
	}
	for word, want := range map[string]string{`/a"b\c`: `"/a\"b\\c"`, "/100%$": "/100%%$$", "/a b": `"/a b"`} {
		if got := quoteSystemd(word); got != want {
			t.Errorf("%s: %s", word, got)
		}
	}
}

func TestAClosedPortIsToldFromAFilteredOne(t *testing.T) {
	const cloud = "the cloud's security group, or a router before the host: let TCP 7422 in"
	for _, tt := range []struct {
		cause, firewall string
		listens         bool
		want            string
	}{
		{
			causeNoAnswer, "ufw", true,
			"TCP 7422 is filtered (no answer), though the relay listens on it at h; suspects: ufw on h: sudo ufw allow 7422/tcp; or " + cloud,
		},
		{causeNoAnswer, "", true, "TCP 7422 is filtered (no answer), though the relay listens on it at h; suspects: " + cloud},
		{causeNoAnswer, "no\x1bsuch", true, "TCP 7422 is filtered (no answer), though the relay listens on it at h; suspects: " + cloud},
		{
			causeNoRoute, "firewalld", true,
			"TCP 7422 is rejected (no route), though the relay listens on it at h; suspects: firewalld on h: " +
				"sudo firewall-cmd --permanent --add-port=7422/tcp && sudo firewall-cmd --reload; or " + cloud,
		},
		{
			causeRefused, "nftables", true,
			"TCP 7422 is closed (connection refused), though the relay listens on it at h; suspects: nftables on h: " +
				"a rule that accepts tcp dport 7422 (sudo nft list ruleset shows what drops it); or " + cloud,
		},
		{
			causeRefused, "ufw", false,
			"TCP 7422 is closed (connection refused), and no relay listens on it at h: does relay.listen in its configuration say another port? Then give --port",
		},
		{"not permitted", "ufw", true, ""},
	} {
		if got := blockedBy("7422", "h", tt.cause, tt.listens, tt.firewall); got != tt.want {
			t.Errorf("\n got %s\nwant %s", got, tt.want)
		}
	}
}
