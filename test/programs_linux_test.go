package test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const relayPort = 7422

// settings are the keys below relay: or proxy: in a configuration file, and their
// values as YAML.
type settings map[string]string

// with returns s with the keys of other in their place.
func (s settings) with(other settings) settings {
	all := maps.Clone(s)
	maps.Copy(all, other)
	return all
}

// configure writes a configuration file and returns its path.
func (l *lab) configure(name, section string, s settings) string {
	l.t.Helper()
	var text strings.Builder
	text.WriteString(section + ":\n")
	for _, key := range slices.Sorted(maps.Keys(s)) {
		text.WriteString("  " + key + ": " + s[key] + "\n")
	}
	return l.write(name, text.String())
}

// startRelay runs sshka-relay on a port, with its own key, and lists it in
// known_relays under all its addresses. It lets the lab's user reach the target.
func (l *lab) startRelay(t *testing.T, port int, s settings) *process {
	t.Helper()
	return l.startRelayIn(t, relay, port, settings{
		"allow": `["10.99.0.0/24:22-23", "[fd99::/64]:22", "*.test:22-23"]`,
	}.with(s), relayIP, relayIP6, relayName)
}

// startRelayIn runs sshka-relay in a namespace that has the given addresses.
func (l *lab) startRelayIn(t *testing.T, r role, port int, s settings, addresses ...string) *process {
	t.Helper()
	name := string(r) + strconv.Itoa(port)
	config := l.configure(name+".yaml", "relay", settings{
		"listen":          fmt.Sprintf(`[":%d"]`, port),
		"state":           l.path(name),
		"authorized_keys": l.path("user.pub"),
	}.with(s))
	p := l.start(t, r, program(t, "sshka-relay"), "serve", "--config", config)
	l.waitListening(p, r, port)
	key := l.fingerprint(t, config)
	for _, ip := range addresses {
		l.knowRelay(t, "known_relays", net.JoinHostPort(ip, strconv.Itoa(port)), key)
	}
	return p
}

// fingerprint asks sshka-relay for the fingerprint of the relay's key.
func (l *lab) fingerprint(t *testing.T, config string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program(t, "sshka-relay"), "fingerprint", "--config", config).Output()
	if err != nil {
		t.Fatalf("sshka-relay fingerprint: %v", err)
	}
	key := string(bytes.TrimSpace(out))
	if !strings.HasPrefix(key, "SHA256:") || strings.ContainsAny(key, " \n") {
		t.Fatalf("sshka-relay fingerprint printed %q, want SHA256:…", out)
	}
	return key
}

// knowRelay adds a line to a file of known relays.
func (l *lab) knowRelay(t *testing.T, file, address, key string) {
	t.Helper()
	f, err := os.OpenFile(l.path(file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, address, key); err != nil {
		t.Fatal(err)
	}
}

// proxyConfig writes a configuration of sshka-proxy that beats every second and
// trusts only the relays it knows.
func (l *lab) proxyConfig(s settings) string {
	l.t.Helper()
	return l.configure(fmt.Sprintf("proxy%d.yaml", l.files.Add(1)), "proxy", settings{
		"relay":        fmt.Sprintf(`"%s:%d"`, relayIP, relayPort),
		"known_relays": l.path("known_relays"),
		"trust":        "strict",
		"identity":     "[" + l.path("user") + "]",
		"heartbeat":    "{interval: 1s}",
	}.with(s))
}

// through returns ssh's option for a connection through sshka-proxy.
func (l *lab) through(t *testing.T, s settings) string {
	t.Helper()
	return fmt.Sprintf("-oProxyCommand=%s --config %s %%h %%p", program(t, "sshka-proxy"), l.proxyConfig(s))
}

// startDaemon runs sshka-proxy serve beside the client. It returns when the link
// is up and all that it listens on is there, of which the admin address is the last.
func (l *lab) startDaemon(t *testing.T, s settings) *process {
	t.Helper()
	return l.startDaemonIn(t, client, s)
}

// startDaemonIn is startDaemon in another namespace.
func (l *lab) startDaemonIn(t *testing.T, r role, s settings) *process {
	t.Helper()
	p := l.start(t, r, program(t, "sshka-proxy"), "serve", "--config", l.proxyConfig(s))
	p.expectLog(`"msg":"link up"`)
	p.expectLog(`"for":"metrics and health"`)
	return p
}

// expectLinks waits until as many TCP connections lead from the client to a relay's
// port as wanted, and fails the test after patience.
func (l *lab) expectLinks(t *testing.T, port, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("ip", "netns", "exec", l.ns(client), "ss", "-Htn", "state", "established", fmt.Sprintf("dport = :%d", port)).Output()
		if err != nil {
			t.Fatalf("ss: %v", err)
		}
		got := bytes.Count(out, []byte("\n"))
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections lead to port %d, want %d:\n%s", got, port, want, out)
		}
	}
}

// idle lets time pass on a real NAT's timer: the one thing here that no event replaces.
func idle(d time.Duration) { time.Sleep(d) }
