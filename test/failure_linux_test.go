package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	foreignPrint = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU" // of no relay here
	sshHint      = "try: ssh -o ProxyCommand=none "
)

// What a person reads when it does not work: one line of ours, among ssh's own.
func TestAFailureIsOneClearLine(t *testing.T) {
	t.Parallel()
	const within = 10 * time.Second
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.answerNothing(t, relay)
	l.check(runTool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.path("stranger")))
	l.write("changed_relays", fmt.Sprintf("# one\n%s:%d %s\n", relayIP, relayPort, foreignPrint))
	l.write("no_relays", "")

	for _, tt := range []struct {
		name  string
		proxy settings
		args  []string // of ssh
		words []string // of the line
		hint  string   // the host in the line's hint, "" if it has none
	}{
		{
			name: "no relay listens there", proxy: settings{"relay": `"198.51.100.10:7499"`},
			args: []string{targetIP}, words: []string{"198.51.100.10:7499", "refused"}, hint: targetIP,
		},
		{
			name: "no machine is there", proxy: settings{"relay": `"198.51.100.99:7422"`},
			args: []string{targetIP}, words: []string{"198.51.100.99:7422"}, hint: targetIP,
		},
		{
			name: "something else listens there", proxy: settings{"relay": `"198.51.100.10:22"`},
			args: []string{targetIP}, words: []string{"198.51.100.10:22", "not from an sshka relay"}, hint: targetIP,
		},
		{name: "the target refuses", args: []string{"-p", "23", targetIP}, words: []string{"10.99.0.2:23 refused the connection"}},
		{name: "the target's name is unknown", args: []string{"nosuch.test"}, words: []string{"no such host", "nosuch.test"}},
		{name: "the target is not allowed", args: []string{"-p", "2222", targetIP}, words: []string{"10.99.0.2:2222", "not allowed", "relay"}},
		{name: "the relay itself is not allowed", args: []string{"127.0.0.1"}, words: []string{"127.0.0.1:22", "not allowed", "relay"}},
		{
			name: "the key is not authorized", proxy: settings{"identity": "[" + l.path("stranger") + "]"},
			args: []string{targetIP}, words: []string{"key"},
		},
		{
			name: "the relay's key changed", proxy: settings{"known_relays": l.path("changed_relays")},
			args: []string{targetIP}, words: []string{"shows the key", l.path("changed_relays") + ":2", foreignPrint},
		},
		{
			name: "the relay is unknown and trust is strict", proxy: settings{"known_relays": l.path("no_relays")},
			args: []string{targetIP}, words: []string{"not known", "strict", "SHA256:", l.path("no_relays")},
		},
		{
			name: "the relay has another key than the pinned one", proxy: settings{"trust": foreignPrint},
			args: []string{targetIP}, words: []string{"shows the key", "configuration", foreignPrint},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{l.through(t, tt.proxy), "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"}, tt.args...)
			p := l.ssh(t, append(args, "true")...)
			p.waitWithin(within, 255)
			line := oneLine(t, p)
			for _, word := range tt.words {
				if !strings.Contains(line, word) {
					t.Errorf("%q does not say %q", line, word)
				}
			}
			if hint := sshHint + tt.hint; tt.hint != "" && !strings.HasSuffix(line, hint) {
				t.Errorf("%q does not end in %q", line, hint)
			}
			t.Log(line)
		})
	}
}

func TestANewRelayIsRecordedOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := fmt.Sprintf("%s:%d %s", relayIP, relayPort, l.fingerprint(t, l.path("relay7422.yaml")))
	through := l.through(t, settings{"trust": "accept-new", "known_relays": l.path("new_relays")})

	first := l.ssh(t, through, targetIP, "true")
	first.wait(0)
	if line := oneLine(t, first); !strings.Contains(line, strings.Fields(want)[1]) {
		t.Errorf("%q does not tell the fingerprint that is trusted from now on", line)
	}
	if got := l.read(t, "new_relays"); strings.TrimSpace(got) != want {
		t.Errorf("recorded %q, want %q", got, want)
	}
	second := l.ssh(t, through, targetIP, "true")
	second.wait(0)
	l.quiet(t, second)
	if got := l.read(t, "new_relays"); strings.TrimSpace(got) != want {
		t.Errorf("recorded %q after the second connection, want %q", got, want)
	}
}

// oneLine returns the only line of sshka-proxy's in what a person saw of ssh.
func oneLine(t *testing.T, p *process) string {
	t.Helper()
	var ours []string
	for line := range strings.Lines(p.stderr.String()) {
		line = strings.TrimRight(line, "\r\n")
		if !containsAny(line, sshOwn) {
			ours = append(ours, line)
		}
	}
	if len(ours) != 1 || !strings.HasPrefix(ours[0], "sshka-proxy: ") {
		t.Fatalf("want one line of sshka-proxy's, got %q", ours)
	}
	return ours[0]
}

// sshOwn marks the lines that ssh adds when its ProxyCommand ends early.
var sshOwn = []string{"client_loop: send disconnect: ", " closed by remote host.", "kex_exchange_identification: ", "Connection closed by ", "Connection reset by ", "banner exchange: "}
