package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What changes while the programs run, and how they end.

// reloaded gives a running program another configuration, and waits for what it
// logs of that.
func (l *lab) reloaded(t *testing.T, p *process, name, section string, s settings, log string) {
	t.Helper()
	l.configure(name, section, s)
	before := strings.Count(p.stderr.String(), log)
	p.signal(unix.SIGHUP)
	deadline := time.Now().Add(patience)
	for strings.Count(p.stderr.String(), log) == before {
		if p.endsWithin(10*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("%s did not log %q again; %s", p.name, log, p.state())
		}
	}
}

// relaySettings are those of startRelay's.
func (l *lab) relaySettings(s settings) settings {
	return settings{
		"listen": fmt.Sprintf(`[":%d"]`, relayPort), "state": l.path("relay7422"), "authorized_keys": l.path("user.pub"),
		"allow": `["10.99.0.0/24:22-23"]`,
	}.with(s)
}

const (
	reloadDone = `"msg":"configuration reloaded"`
	reloadNot  = `"msg":"configuration refused, the old one goes on"`
)

func TestASessionLivesThroughAReload(t *testing.T) {
	t.Parallel()
	const otherPort = relayPort + 1
	l := newLab(t)
	r := l.startRelay(t, relayPort, l.relaySettings(nil))
	key := l.fingerprint(t, l.path("relay7422.yaml"))
	l.knowRelay(t, "known_relays", fmt.Sprintf("%s:%d", relayIP, otherPort), key)
	p := l.ssh(t, l.through(t, nil), targetIP, "cat")
	p.send("before\n")
	p.expect("before")

	// One more listener, and another policy for the next session.
	l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(settings{
		"listen": fmt.Sprintf(`[":%d", ":%d"]`, relayPort, otherPort), "allow": `["10.99.0.0/24:23"]`,
		"admin": `"127.0.0.1:9999"`, "log": "{level: debug}",
	}), reloadDone)
	r.expectLog(`"problem":"needs a restart: relay.admin"`)
	p.send("between\n")
	p.expect("between")
	refused := l.ssh(t, l.through(t, nil), targetIP, "true")
	refused.wait(255)
	if line := oneLine(t, refused); !strings.Contains(line, "is not allowed by relay") {
		t.Errorf("ssh says %q, want the new policy", line)
	}
	r.expectLog(`"level":"DEBUG"`)

	// The first listener goes; its link stays.
	l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(settings{"listen": fmt.Sprintf(`[":%d"]`, otherPort)}), reloadDone)
	r.expectLog(`"msg":"no longer listening"`)
	p.send("after\n")
	p.expect("after")
	l.expectLinks(t, relayPort, 1)
	other := settings{"relay": fmt.Sprintf(`"%s:%d"`, relayIP, otherPort)}
	l.ssh(t, l.through(t, other), targetIP, "true").wait(0)
	gone := l.ssh(t, l.through(t, nil), targetIP, "true")
	gone.wait(255)
	if line := oneLine(t, gone); !strings.Contains(line, "connection refused") {
		t.Errorf("ssh says %q of the old port", line)
	}
	p.stdin.Close()
	p.wait(0)
	l.quiet(t, p)
	if pauses := strings.Count(r.stderr.String(), `"pauses":1`); pauses != 0 {
		t.Errorf("the reload made %d pauses", pauses)
	}
	r.signal(unix.SIGTERM)
	r.wait(0)
}

func TestABrokenConfigurationIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.startRelay(t, relayPort, l.relaySettings(nil))
	for _, tt := range []struct {
		name string
		s    settings
		want []string // problems
	}{
		{"two mistakes", settings{"allow": `["10.99.0.0/24:99"]`, "alow": "[]", "target_keepalive": "5"}, []string{"relay.alow: unknown key; did you mean allow?", "relay.target_keepalive: "}},
		{"an address in use", settings{"allow": `["10.99.0.0/24:99"]`, "listen": `[":7422", ":7599", "198.51.100.10:22"]`}, []string{"relay.listen[2]: listen on 198.51.100.10:22: bind: address already in use"}},
		{"a list without anybody", settings{"allow": `["10.99.0.0/24:99"]`, "authorized_keys": l.write("nobody", "# nobody\n")}, []string{"relay.authorized_keys: " + l.path("nobody") + " authorizes nobody"}},
		{"no program", settings{"allow": `["10.99.0.0/24:99"]`, "authorized_keys_command": `["` + l.path("nothing") + `"]`}, []string{"relay.authorized_keys_command: authorizes nobody: "}},
	} {
		l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(tt.s), reloadNot)
		for _, want := range tt.want {
			if !r.logs(want, patience) {
				t.Errorf("%s: the log does not say %q", tt.name, want)
			}
		}
		p := l.ssh(t, l.through(t, nil), targetIP, "true")
		p.wait(0)
		l.quiet(t, p)
	}
	if _, err := exec.Command("ip", "netns", "exec", l.ns(relay), "nc", "-z", loopbackIP, "7599").Output(); err == nil {
		t.Error("a listener of a refused configuration is open")
	}
	l.check(os.Remove(l.path("relay7422.yaml")))
	r.signal(unix.SIGHUP)
	r.expectLog("no such file or directory")
	l.ssh(t, l.through(t, nil), targetIP, "true").wait(0)
}

// Whose key the new list does not have is out, as if its line was removed.
func TestAnotherListOfKeysIsTakenAtAReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.startRelay(t, relayPort, l.relaySettings(nil))
	user, err := os.ReadFile(l.path("user.pub"))
	l.check(err)
	p := l.ssh(t, l.through(t, nil), targetIP, "cat")
	p.send("before\n")
	p.expect("before")

	// The same key from a command: the session stays.
	command := l.write("fleet-keys", "#!/bin/sh\necho '"+strings.TrimSpace(string(user))+"'\n")
	l.check(os.Chmod(command, 0o700))
	l.check(os.Chmod(l.dir, 0o755))
	byCommand := settings{"authorized_keys": l.write("none", "# none\n"), "authorized_keys_command": `["` + command + `"]`}
	l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(byCommand), reloadDone)
	idle(5 * time.Second) // two looks at everybody
	p.send("after\n")
	p.expect("after")
	l.ssh(t, l.through(t, nil), targetIP, "true").wait(0)

	// And from nowhere.
	l.check(runTool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.path("stranger")))
	l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(settings{"authorized_keys": l.path("stranger.pub")}), reloadDone)
	p.wait(255)
	if !strings.Contains(p.stderr.String(), "the key is no longer authorized") {
		t.Errorf("ssh says %q", p.stderr)
	}
}

func TestADrainWaitsForASession(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hear := l.manager(t)
	config := l.configure("relay7422.yaml", "relay", l.relaySettings(settings{"drain": "10m"}))
	r := l.startWith(t, relay, hear.attach, program(t, "sshka-relay"), "serve", "--config", config)
	hear.expect("READY=1\nSTATUS=listening on [::]:7422\n")
	l.knowRelay(t, "known_relays", fmt.Sprintf("%s:%d", relayIP, relayPort), l.fingerprint(t, config))
	if status, body := l.get(t, relay, relayAdmin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz answers %d %q", status, body)
	}
	p := l.ssh(t, l.through(t, nil), targetIP, "cat")
	p.send("before\n")
	p.expect("before")

	r.signal(unix.SIGTERM)
	r.expectLog(`"msg":"draining","sessions":1`)
	hear.expect("STOPPING=1\n")
	hear.expect("EXTEND_TIMEOUT_USEC=")
	if status, body := l.get(t, relay, relayAdmin, "/readyz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Errorf("/readyz answers %d %q", status, body)
	}
	if status, _ := l.get(t, relay, relayAdmin, "/healthz", ""); status != http.StatusOK {
		t.Errorf("/healthz answers %d", status)
	}
	status := l.start(t, relay, program(t, "sshka-relay"), "status", "--config", config)
	status.wait(0)
	if first, _, _ := strings.Cut(status.stdout.String(), "\n"); !strings.HasSuffix(first, ", draining: it takes no new sessions") {
		t.Errorf("status says %q", first)
	}
	refused := l.ssh(t, l.through(t, nil), targetIP, "true") // whose key has a session here
	refused.wait(255)
	if line := oneLine(t, refused); !strings.Contains(line, "the relay shuts down and takes no new sessions") {
		t.Errorf("ssh says %q", line)
	}
	r.signal(unix.SIGHUP)
	r.expectLog("not reloaded: the relay is draining")
	l.cutLinks(t)
	p.send("after a cut\n")
	p.expect("after a cut")
	p.stdin.Close()
	p.wait(0)
	l.quiet(t, p)
	r.wait(0)
	r.expectLog(`"msg":"drained"`)
}

func TestADrainEndsInTimeOrAtTheSecondSignal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		drain  string
		second bool
		log    string
	}{
		"in time":              {"2s", false, "drained for as long as relay.drain says"},
		"at the second signal": {"10m", true, "told to end at once"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			r := l.startRelay(t, relayPort, l.relaySettings(settings{"drain": tt.drain}))
			p := l.ssh(t, l.through(t, nil), targetIP, "cat")
			p.send("before\n")
			p.expect("before")
			r.signal(unix.SIGTERM)
			r.expectLog(`"msg":"draining","sessions":1`)
			if tt.second {
				r.signal(unix.SIGINT)
			}
			r.wait(0)
			r.expectLog(tt.log)
			p.wait(255)
			if !strings.Contains(p.stderr.String(), "the relay shuts down") {
				t.Errorf("ssh says %q", p.stderr)
			}
		})
	}
}

func TestSystemdGivesTheRelayItsSockets(t *testing.T) {
	t.Parallel()
	needTools(t, "systemd-socket-activate")
	l := newLab(t)
	config := l.configure("relay7422.yaml", "relay", l.relaySettings(settings{"listen": `["127.0.0.1:7777"]`, "admin": `"127.0.0.1:7778"`}))
	l.knowRelay(t, "known_relays", fmt.Sprintf("%s:%d", relayIP, relayPort), l.fingerprint(t, config))
	r := l.start(t, relay, "systemd-socket-activate", "-l", fmt.Sprintf("0.0.0.0:%d", relayPort), "-l", fmt.Sprintf("127.0.0.1:%d", relayAdmin), "--fdname=links:admin",
		program(t, "sshka-relay"), "serve", "--config", config)
	l.waitListening(r, relay, relayPort)
	p := l.ssh(t, l.through(t, nil), targetIP, "cat") // starts the relay
	p.send("hello\n")
	p.expect("hello")
	r.expectLog("systemd gives the sockets, relay.listen is not used")
	if status, body := l.get(t, relay, relayAdmin, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz answers %d %q", status, body)
	}
	l.reloaded(t, r, "relay7422.yaml", "relay", l.relaySettings(settings{"listen": `["127.0.0.1:7779"]`}), reloadDone)
	r.expectLog("relay.listen is not used: systemd gives the sockets")
	l.ssh(t, l.through(t, nil), targetIP, "true").wait(0)
	p.stdin.Close()
	p.wait(0)
	l.quiet(t, p)
}

func TestTheDaemonReloads(t *testing.T) {
	t.Parallel()
	needTools(t, "nc")
	l := newLab(t)
	l.startRelay(t, relayPort, l.relaySettings(nil))
	hear := l.manager(t)
	base := settings{
		"relay": fmt.Sprintf(`"%s:%d"`, relayIP, relayPort), "known_relays": l.path("known_relays"), "trust": "strict",
		"identity": "[" + l.path("user") + "]", "heartbeat": "{interval: 1s}",
	}
	forwards := func(listen, target string) string {
		return fmt.Sprintf(`[{listen: "%s", target: "%s"}]`, listen, target)
	}
	config := l.configure("d.yaml", "proxy", base.with(settings{"forwards": forwards("127.0.0.1:2222", targetIP+":22")}))
	d := l.startWith(t, client, hear.attach, program(t, "sshka-proxy"), "serve", "--config", config)
	hear.expect("READY=1\n")
	d.expectLog(`"msg":"link up"`)
	socks := l.ssh(t, netcat("5"), targetIP, "cat")
	forward := l.ssh(t, "-p2222", "-oHostKeyAlias="+targetIP, loopbackIP, "cat")
	alive := func(text string) {
		t.Helper()
		for _, p := range []*process{socks, forward} {
			p.send(text + "\n")
			p.expect(text)
		}
	}
	alive("before")

	l.reloaded(t, d, "d.yaml", "proxy", base.with(settings{"listen": `["0.0.0.0:1080"]`, "fallback": "sometimes"}), reloadNot)
	hear.expect("RELOADING=1\nMONOTONIC_USEC=")
	hear.expect("READY=1\nSTATUS=the last reload was refused")
	alive("still")

	// Other listeners; the forward leads elsewhere; a password; and what has to wait.
	l.check(os.Chmod(config, 0o600))
	l.reloaded(t, d, "d.yaml", "proxy", base.with(settings{
		"listen": `["127.0.0.1:1081"]`, "forwards": forwards("127.0.0.1:2222", targetIP+":23"),
		"socks_user": `"me:secret"`, "heartbeat": "{interval: 2s}", "fallback": "direct",
	}), reloadDone)
	d.expectLog(`"problem":"needs a restart: proxy.fallback"`)
	d.expectLog(`"msg":"no longer listening"`)
	alive("after")
	l.expectLinks(t, relayPort, 1)
	if out, err := exec.Command("ip", "netns", "exec", l.ns(client), "curl", "-sS", "-m5", "--socks5-hostname", "127.0.0.1:1081", "http://"+targetIP+":22/").CombinedOutput(); err == nil || strings.Contains(string(out), "SSH-2.0") {
		t.Errorf("SOCKS without the password: %s, %v", out, err)
	}
	if p := l.ssh(t, "-p2222", loopbackIP, "true"); !p.endsWithin(patience) || p.status != 255 {
		t.Error("the forward still leads to sshd")
	}
	for _, p := range []*process{socks, forward} {
		p.stdin.Close()
		p.wait(0)
	}
	d.signal(unix.SIGTERM)
	d.wait(0)
	hear.expect("STOPPING=1\n")
}

// HOST PORT ends by HUP, whatever the daemon makes of it: its terminal is gone.
func TestHangUpStillEndsAProxyCommand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	p := l.start(t, client, program(t, "sshka-proxy"), "--config", l.proxyConfig(nil), targetIP, "22")
	p.expect("SSH-2.0")
	p.signal(unix.SIGHUP)
	if !p.endsWithin(2 * time.Second) {
		t.Error("it still runs")
	}
}

// sdManager hears what a program tells its service manager.
type sdManager struct {
	t    *testing.T
	path string
	said *output
}

// manager stands in for systemd's notification socket.
func (l *lab) manager(t *testing.T) *sdManager {
	t.Helper()
	m := &sdManager{t: t, path: filepath.Join(l.dir, fmt.Sprintf("notify%d", l.files.Add(1))), said: newOutput()}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	l.check(err)
	l.check(unix.Bind(fd, &unix.SockaddrUnix{Name: m.path}))
	l.check(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for t.Context().Err() == nil {
			if n, _, err := unix.Recvfrom(fd, buf, 0); err == nil {
				m.said.Write(buf[:n])
			}
		}
	}()
	t.Cleanup(func() {
		<-done
		unix.Close(fd)
	})
	return m
}

// attach lets a program have it.
func (m *sdManager) attach(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path) }

// expect fails the test unless text is told within patience.
func (m *sdManager) expect(text string) {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		said, changed := m.said.read()
		if strings.Contains(said, text) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.t.Fatalf("the manager was not told %q, only %q", text, said)
		}
	}
}
