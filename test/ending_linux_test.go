package test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A relay must not keep sshd's login for a day because ssh was killed.
func TestNothingStaysWhenAProgramIsKilled(t *testing.T) {
	t.Parallel()
	const within = 2 * time.Second
	l := newLab(t)
	// A proxy that was killed cannot say goodbye: to the relay its link is lost, and
	// the session waits for as long as the window says.
	l.startRelay(t, relayPort, settings{"session": "{window: 1s}"})
	for _, tt := range []struct {
		name   string
		signal unix.Signal
		victim string
	}{
		{"ssh by SIGKILL", unix.SIGKILL, "ssh"},
		{"ssh by SIGHUP", unix.SIGHUP, "ssh"},
		{"ssh by SIGTERM", unix.SIGTERM, "ssh"},
		{"sshka-proxy by SIGKILL", unix.SIGKILL, "sshka-proxy"},
		{"sshka-proxy by SIGTERM", unix.SIGTERM, "sshka-proxy"},
		{"sshd's session by SIGKILL", unix.SIGKILL, "sshd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := l.ssh(t, l.through(t, nil), targetIP, `echo "session $PPID."; cat`)
			p.expect(".\n")
			session := parseSession(t, p.stdout.String())
			proxy := p.child("sshka-proxy")
			unix.Kill(map[string]int{"ssh": p.pid, "sshka-proxy": proxy, "sshd": session}[tt.victim], tt.signal)
			start := time.Now()
			if !gone(t, proxy, within) {
				t.Errorf("sshka-proxy still runs after %s", within)
			}
			if !gone(t, session, within-time.Since(start)) {
				t.Errorf("sshd's process of the session still runs after %s", within)
			}
			if !p.endsWithin(patience) {
				t.Error("ssh still runs")
			}
			t.Logf("all gone after %s", time.Since(start).Round(time.Millisecond))
			if tt.victim != "ssh" && p.status != 255 {
				t.Errorf("ssh ended with %d, want 255", p.status)
			}
		})
	}
}

// parseSession reads the process of sshd that the remote shell told of.
func parseSession(t *testing.T, said string) int {
	t.Helper()
	_, text, _ := strings.Cut(said, "session ")
	text, _, _ = strings.Cut(text, ".")
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 2 {
		t.Fatalf("%q names no process", said)
	}
	return pid
}
