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
	text := section + ":\n"
	var textSb35 strings.Builder
	for _, key := range slices.Sorted(maps.Keys(s)) {
		textSb35.WriteString("  " + key + ": " + s[key] + "\n")
	}
	text += textSb35.String()
	return l.write(name, text)
}

// startRelay runs sshka-relay on a port, with its own key, and lists it in
// known_relays under all its addresses. It lets the lab's user reach the target.
func (l *lab) startRelay(t *testing.T, port int, s settings) *process {
	t.Helper()
	name := "relay" + strconv.Itoa(port)
	config := l.configure(name+".yaml", "relay", settings{
		"listen":          fmt.Sprintf(`[":%d"]`, port),
		"state":           l.path(name),
		"authorized_keys": l.path("user.pub"),
		"allow":           `["10.99.0.0/24:22-23", "[fd99::/64]:22", "*.test:22"]`,
	}.with(s))
	p := l.start(t, relay, program(t, "sshka-relay"), "serve", "--config", config)
	l.waitListening(p, relay, port)
	key := l.fingerprint(t, config)
	for _, ip := range []string{relayIP, relayIP6} {
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

// idle lets time pass on a real NAT's timer: the one thing here that no event replaces.
func idle(d time.Duration) { time.Sleep(d) }
