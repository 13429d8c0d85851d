package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sshka/sshka-proxy/proxy/status"
)

// asked runs a command that ends by itself and returns what it says.
func (l *lab) asked(t *testing.T, r role, want int, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	p := l.start(t, r, program(t, name), args...)
	p.wait(want)
	return p.stdout.String(), p.stderr.String()
}

// status asks a running program with this configuration.
func (l *lab) status(t *testing.T, r role, name, config string) *status.Snapshot {
	t.Helper()
	out, _ := l.asked(t, r, 0, name, "status", "--json", "--config", config)
	var s status.Snapshot
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%s status --json: %v:\n%s", name, err, out)
	}
	if s.Schema != 1 || !s.Running {
		t.Errorf("%+v", s)
	}
	return &s
}

// until asks both programs until they tell what is wanted of them.
func (l *lab) until(t *testing.T, config, what string, told func(s *status.Snapshot) bool) (proxys, relays *status.Snapshot) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		p := l.status(t, client, "sshka-proxy", config)
		r := l.status(t, relay, "sshka-relay", l.path("relay7422.yaml"))
		if told(p) && told(r) {
			return p, r
		}
		if time.Now().After(deadline) {
			t.Fatalf("not told: %s;\n%+v\n%+v", what, p, r)
		}
	}
}

// states reports whether there are two sessions, all in that state.
func states(want status.State) func(*status.Snapshot) bool {
	return func(s *status.Snapshot) bool {
		for _, v := range s.Sessions {
			if v.State != want {
				return false
			}
		}
		return len(s.Sessions) == 2
	}
}

func TestStatusOfBothProgramsAndItsEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	beats := settings{"heartbeat": strictBeats}
	first := l.startRelay(t, relayPort, beats)
	daemon := l.startDaemon(t, beats)
	config := l.proxyConfig(nil)
	relayConfig := l.path("relay7422.yaml")

	// One session in a process of its own, another in the daemon.
	own := l.ssh(t, l.through(t, nil), targetIP, "cat")
	daemons := l.ssh(t, append(l.passing(t, nil), targetIP, "cat")...)
	for _, p := range []*process{own, daemons} {
		p.send("before\n")
		p.expect("before")
	}
	p, r := l.until(t, config, "two sessions attached, and a beat", func(s *status.Snapshot) bool {
		return states(status.Attached)(s) && len(s.Links) == 1 && (s.Role == "relay" || s.Links[0].RTT > 0)
	})
	if p.PID != daemon.pid || r.PID != first.pid || p.Relay != relayIP+":7422" || p.Links[0].Address != relayIP+":7422" {
		t.Errorf("%+v, %+v", p, r)
	}
	guests, ids := 0, map[string]bool{}
	for _, v := range p.Sessions {
		ids[v.ID] = true
		if v.PID != 0 {
			guests++
		}
		if v.Target != targetIP+":22" || v.ToTarget == 0 || v.ToClient == 0 {
			t.Errorf("%+v", v)
		}
	}
	if guests != 1 {
		t.Errorf("%d sessions of other processes, want 1: %+v", guests, p.Sessions)
	}
	for _, v := range r.Sessions {
		if !ids[v.ID] || v.Key != r.Links[0].Key || !strings.HasPrefix(v.Key, "SHA256:") || v.ToTarget == 0 || v.ToClient == 0 {
			t.Errorf("%+v, the proxy knows %v", v, ids)
		}
	}
	for port, r := range map[int]role{proxyAdmin: client, relayAdmin: relay} {
		code, body := l.get(t, r, port, "/status", "")
		var s status.Snapshot
		if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK || len(s.Sessions) != 2 {
			t.Errorf("%s: /status answers %d, %v:\n%s", r, code, err, body)
		}
	}

	// The path is gone, and comes back.
	l.obstruct("drop")
	p, r = l.until(t, config, "two sessions detached", states(status.Detached))
	for _, s := range []*status.Snapshot{p, r} {
		if len(s.Links) != 0 || s.LastLost == nil || s.LastLost.Reason == "" {
			t.Errorf("%+v, %+v", s, s.LastLost)
		}
	}
	if !p.Dialling {
		t.Errorf("%+v", p)
	}
	out, _ := l.asked(t, client, 0, "sshka-proxy", "status", "--config", config)
	if !strings.Contains(out, "no link, the relay is being dialled") || !strings.Contains(out, "detached") {
		t.Errorf("status says\n%s", out)
	}
	l.obstruct("")
	_, r = l.until(t, config, "two sessions attached again", func(s *status.Snapshot) bool {
		return states(status.Attached)(s) && s.Sessions[0].Pauses > 0 && s.Sessions[1].Pauses > 0
	})

	// An operator ends one by its id, and what is left by its key.
	id, key := r.Sessions[0].ID, r.Sessions[0].Key
	if out, _ := l.asked(t, relay, 0, "sshka-relay", "end", id[:8], "--config", relayConfig); out != "1 session ended\n" {
		t.Errorf("end says %q", out)
	}
	first.expectLog(`"msg":"session is ended by an operator","session":"` + id)
	l.until(t, config, "one session", func(s *status.Snapshot) bool { return len(s.Sessions) == 1 })
	if _, said := l.asked(t, relay, 1, "sshka-relay", "end", id, "--config", relayConfig); !strings.Contains(said, "no such session") {
		t.Errorf("end says %q", said)
	}
	if out, _ := l.asked(t, relay, 0, "sshka-relay", "end", "--key", key, "--config", relayConfig); out != "1 session ended\n" {
		t.Errorf("end says %q", out)
	}
	own.wait(255)
	daemons.wait(255)
	if line := oneLine(t, own); !strings.HasSuffix(line, targetIP+":22: session reset: ended by an operator") {
		t.Errorf("%q", line)
	}
	// ssh hid it, or not: status knows.
	if s := l.status(t, client, "sshka-proxy", config); s.LastError == nil || !strings.Contains(s.LastError.Text, "ended by an operator") {
		t.Errorf("%+v", s.LastError)
	}
}

// A socket answers its own user and root, whatever its mode.
func TestARelaysSocketIsForItsUser(t *testing.T) {
	t.Parallel()
	needTools(t, "nc", "setpriv")
	l := newLab(t)
	p := l.startRelay(t, relayPort, nil)
	p.expectLog(`"socket":`)
	path := l.path("relay7422/relay.sock")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, open := range []string{workDir, l.dir, l.path("relay7422")} {
		l.check(os.Chmod(open, 0o711))
	}
	l.check(os.Chmod(path, 0o666))
	l.start(t, relay, "nc", "-U", path).expect(`"version"`)
	spy := l.start(t, relay, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "nc", "-U", path)
	p.expectLog("refused another user on the socket")
	if said := spy.stdout.String(); said != "" {
		t.Errorf("another user was told %q", said)
	}
}

// A second relay with the same state serves, and says what it lacks. What a killed
// one leaves behind is removed.
func TestARelaysSocketOutlivesNeighboursAndKills(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := l.startRelay(t, relayPort, nil)
	second := l.startRelay(t, relayPort+1, settings{"state": l.path("relay7422"), "admin": `""`})
	second.expectLog("another relay serves " + l.path("relay7422/relay.sock"))
	config := l.path("relay7422.yaml")
	if s := l.status(t, relay, "sshka-relay", config); s.PID != first.pid {
		t.Errorf("process %d answers, want %d", s.PID, first.pid)
	}
	first.signal(unix.SIGKILL)
	<-first.ended
	if _, said := l.asked(t, relay, 1, "sshka-relay", "status", "--config", config); !strings.Contains(said, "no relay runs with this configuration") {
		t.Errorf("status says %q", said)
	}
	next := l.startRelay(t, relayPort, nil)
	next.expectLog(`"socket":`)
	if s := l.status(t, relay, "sshka-relay", config); s.PID != next.pid {
		t.Errorf("process %d answers, want %d", s.PID, next.pid)
	}
	next.signal(unix.SIGSTOP)
	if _, said := l.asked(t, relay, 1, "sshka-relay", "status", "--config", config); !strings.Contains(said, "does not answer within 5s") {
		t.Errorf("status says %q", said)
	}
}

// checked is sshka-proxy check in the client's namespace.
func (l *lab) checked(t *testing.T, want int, s settings, args ...string) []string {
	t.Helper()
	out, said := l.asked(t, client, want, "sshka-proxy", append([]string{"--config", l.proxyConfig(s), "check"}, args...)...)
	if said != "" {
		t.Errorf("check wrote to stderr: %q", said)
	}
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

func TestCheckOfAWayThatIsWell(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, nil)
	l.check(os.MkdirAll(l.path("home/.ssh"), 0o700))
	l.write("home/.ssh/config", "Host alias\n\tHostName "+targetName+"\n\tServerAliveInterval 15\n"+
		"Host own\n\tHostName nosuch.test\n\tProxyCommand sshka-proxy "+targetIP+" %p\n")
	for _, tt := range []struct {
		args []string
		want []string // beginnings of the lines
	}{
		{nil, nil},
		{[]string{targetIP}, []string{"ok   target 10.99.0.2:22 reached", "ok   banner SSH-2.0-OpenSSH", "ok   ssh ServerAliveInterval 0"}},
		{[]string{"own"}, []string{"ok   target 10.99.0.2:22 reached", "ok   banner SSH-2.0-OpenSSH", "ok   ssh ServerAliveInterval 0"}},
		{[]string{"alias", "22"}, []string{
			"ok   target target.test:22 reached", "ok   banner SSH-2.0-OpenSSH",
			"warn ssh gives up after 45s without an answer (ServerAliveInterval 15 × ServerAliveCountMax 3), the relay keeps the session for 24h0m0s; set ServerAliveInterval 0",
		}},
	} {
		lines := l.checked(t, 0, nil, tt.args...)
		want := append([]string{
			"ok   configuration ", "ok   daemon version ", "ok   keys 1: SHA256:", "ok   DNS 198.51.100.10 is an address",
			"ok   TCP 198.51.100.10:7422 in ", "ok   TLS the relay's key is SHA256:", "ok   authentication in ", "ok   beat answered in ",
		}, tt.want...)
		if len(lines) != len(want) {
			t.Fatalf("%v: %d lines, want %d:\n%s", tt.args, len(lines), len(want), strings.Join(lines, "\n"))
		}
		for i := range want {
			if !strings.HasPrefix(lines[i], want[i]) {
				t.Errorf("%v: %q, want %q", tt.args, lines[i], want[i])
			}
		}
	}
}

func TestCheckFindsTheCause(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.answerNothing(t, relay)
	l.check(runTool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.path("stranger")))
	l.write("changed_relays", fmt.Sprintf("# one\n%s:%d %s\n", relayIP, relayPort, foreignPrint))
	l.obstruct(upwards + " tcp dport 7498 drop")
	for _, tt := range []struct {
		name  string
		proxy settings
		args  []string
		want  string // the beginning of the last line
	}{
		{"the port is closed", settings{"relay": `"198.51.100.10:7499"`}, nil, "FAIL TCP 198.51.100.10:7499: connection refused; the host is there, "},
		{"the port is filtered", settings{"relay": `"198.51.100.10:7498"`}, nil, "FAIL TCP 198.51.100.10:7498: no answer; filtered: "},
		{"no machine is there", settings{"relay": `"198.51.100.99:7422"`}, nil, "FAIL TCP 198.51.100.99:7422: no route; is this computer online, "},
		{"something else listens there", settings{"relay": `"198.51.100.10:22"`}, nil, "FAIL TLS the answer is not from an sshka relay; "},
		{"the relay's key changed", settings{"known_relays": l.path("changed_relays")}, nil, "FAIL TLS the relay shows the key SHA256:"},
		{"the key is not authorized", settings{"identity": "[" + l.path("stranger") + "]"}, nil, "FAIL authentication denied by the relay: key not authorized (1 key offered); "},
		{"the target refuses", nil, []string{targetIP, "23"}, "FAIL target 10.99.0.2:23 refused the connection; is sshd running there, "},
		{"the target is not allowed", nil, []string{targetIP, "2222"}, "FAIL target 10.99.0.2:2222 is not allowed by relay 198.51.100.10:7422; add a rule "},
		{"the target's name is unknown", nil, []string{"nosuch.test"}, "FAIL target no such host nosuch.test; the relay's resolver does not know the name: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lines := l.checked(t, 1, tt.proxy, tt.args...)
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, tt.want) {
				t.Errorf("%q, want %q", last, tt.want)
			}
			for _, line := range lines[:len(lines)-1] {
				if !strings.HasPrefix(line, "ok   ") {
					t.Errorf("%q", line)
				}
			}
		})
	}
}
