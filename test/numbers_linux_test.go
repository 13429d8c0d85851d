package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The ports of the admin addresses, on loopback.
const (
	proxyAdmin = 9470
	relayAdmin = 9471
)

// get asks an admin address on a namespace's loopback for a path. host is the Host
// header, "" for the address itself.
func (l *lab) get(t *testing.T, r role, port int, path, host string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", loopbackIP, port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	answer, err := (&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = inNamespace(l.ns(r), func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}).RoundTrip(request)
	if err != nil {
		t.Fatalf("%s: get %s from port %d: %v", r, path, port, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s: get %s from port %d: %v", r, path, port, err)
	}
	return answer.StatusCode, string(text)
}

// numbers is where the numbers of a program are read.
type numbers struct {
	l    *lab
	t    *testing.T
	r    role
	port int
}

// numbers returns those of the program with an admin address on a namespace's loopback.
func (l *lab) numbers(t *testing.T, r role, port int) numbers { return numbers{l, t, r, port} }

// read returns a number now. Its labels are written as Prometheus does, without role.
func (n numbers) read(name string, labels ...string) float64 {
	n.t.Helper()
	all := n.all(name, labels...)
	if len(all) == 0 {
		n.t.Fatalf("%s has no number %s %q", n.r, name, labels)
	}
	return all[0]
}

// sum returns the sum of a number over its labels now.
func (n numbers) sum(name string) (sum float64) {
	n.t.Helper()
	for _, x := range n.all(name) {
		sum += x
	}
	return sum
}

// all returns a number now, with each of its labels that fit.
func (n numbers) all(name string, labels ...string) (found []float64) {
	n.t.Helper()
	status, text := n.l.get(n.t, n.r, n.port, "/metrics", "")
	if status != http.StatusOK {
		n.t.Fatalf("%s: /metrics answers %d: %s", n.r, status, text)
	}
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(series, "{"); base != name || !containsAll(series, labels) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.t.Fatalf("%s: %q: %v", n.r, line, err)
		}
		found = append(found, number)
	}
	return found
}

// expect waits until a number is as wanted, and fails the test after patience.
func (n numbers) expect(wanted func(float64) bool, name string, labels ...string) {
	n.t.Helper()
	n.expectWithin(patience, wanted, name, labels...)
}

func (n numbers) expectWithin(d time.Duration, wanted func(float64) bool, name string, labels ...string) {
	n.t.Helper()
	n.wait(d, wanted, func() float64 { return n.read(name, labels...) }, fmt.Sprintf("%s %q", name, labels))
}

// expectSum is expect for the sum of a number over its labels.
func (n numbers) expectSum(wanted func(float64) bool, name string) {
	n.t.Helper()
	n.wait(patience, wanted, func() float64 { return n.sum(name) }, "the sum of "+name)
}

func (n numbers) wait(d time.Duration, wanted func(float64) bool, read func() float64, what string) {
	n.t.Helper()
	for deadline := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
		got := read()
		if wanted(got) {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s: %s is %v", n.r, what, got)
		}
	}
}

func equal(want float64) func(float64) bool {
	return func(got float64) bool { return got == want }
}

func atLeast(want float64) func(float64) bool {
	return func(got float64) bool { return got >= want }
}

func atMost(want float64) func(float64) bool {
	return func(got float64) bool { return got <= want }
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

func TestTheAdminAddressesAnswer(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, nil)
	for _, at := range []struct {
		r     role
		port  int
		label string
	}{{client, proxyAdmin, `role="proxy"`}, {relay, relayAdmin, `role="relay"`}} {
		for _, tt := range []struct {
			path, host string
			status     int
			says       string
		}{
			{path: "/healthz", status: http.StatusOK, says: "ok"},
			{path: "/readyz", status: http.StatusOK, says: "ready"},
			{path: "/readyz", host: "localhost", status: http.StatusOK, says: "ready"},
			{path: "/metrics", status: http.StatusOK, says: "sshka_links{" + at.label + "} 1\n"},
			{path: "/metrics", host: "rebound.example", status: http.StatusForbidden},
			{path: "/healthz", host: "rebound.example:9470", status: http.StatusForbidden},
			{path: "/", status: http.StatusOK, says: "<!DOCTYPE html>"},
			{path: "/", host: "rebound.example", status: http.StatusForbidden},
			{path: "/events", host: "rebound.example", status: http.StatusForbidden},
			{path: "/debug/pprof/", status: http.StatusNotFound},
		} {
			status, text := l.get(t, at.r, at.port, tt.path, tt.host)
			if status != tt.status || !strings.Contains(text, tt.says) {
				t.Errorf("%s for %q at the %s: %d %.200q, want %d %q", tt.path, tt.host, at.r, status, text, tt.status, tt.says)
			}
		}
	}
}

// A daemon whose relay is not there lives, and says that it is not ready.
func TestADaemonWithoutLinkIsNotReady(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	earlier := l.startRelay(t, relayPort, nil) // its key is known
	earlier.signal(unix.SIGTERM)
	earlier.wait(0)
	p := l.start(t, client, program(t, "sshka-proxy"), "serve", "--config", l.proxyConfig(nil))
	p.expectLog("refused")
	p.expectLog(`"for":"metrics and health"`)
	if status, _ := l.get(t, client, proxyAdmin, "/healthz", ""); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if status, text := l.get(t, client, proxyAdmin, "/readyz", ""); status != http.StatusServiceUnavailable || strings.Count(text, "\n") != 1 {
		t.Errorf("/readyz: %d %q, want 503 and a line that says why", status, text)
	}
	n := l.numbers(t, client, proxyAdmin)
	n.expect(atLeast(1), "sshka_link_dials_total", `result="unreachable"`)
	if up := n.read("sshka_link_up"); up != 0 {
		t.Errorf("sshka_link_up is %v", up)
	}
	l.startRelay(t, relayPort, nil)
	n.expect(equal(1), "sshka_link_up")
	if status, text := l.get(t, client, proxyAdmin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz: %d %q once the relay is there", status, text)
	}
}
