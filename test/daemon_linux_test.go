package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	daemonIdle = 2 * natIdle
	socketFile = "home/.cache/sshka/proxy.sock" // the daemon's, by default
)

// passing returns ssh's options for a connection that the daemon hands over.
func (l *lab) passing(t *testing.T, s settings) []string {
	t.Helper()
	return []string{"-oProxyUseFdpass=yes", strings.Replace(l.through(t, s), " %h", " --fdpass %h", 1)}
}

func TestEverySSHSharesTheDaemonsLink(t *testing.T) {
	t.Parallel()
	const each = 3
	l := newLab(t)
	l.setNAT(nat, silent, natIdle)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, nil)
	n := l.numbers(t, client, proxyAdmin)

	var all []*process
	for range each {
		all = append(all, l.ssh(t, l.through(t, nil), targetIP, "cat"))
	}
	for range each {
		all = append(all, l.ssh(t, append(l.passing(t, nil), targetIP, "cat")...))
	}
	for _, p := range all {
		p.send("before\n")
		p.expect("before")
	}
	for _, p := range all[each:] {
		if beside := p.children(); len(beside) > 0 {
			t.Errorf("beside ssh run %v, want nothing after --fdpass", beside)
		}
	}
	idle(daemonIdle)
	l.expectLinks(t, relayPort, 1)
	if got := n.read("sshka_links"); got != 1 {
		t.Errorf("sshka_links is %v, want 1", got)
	}
	if got := n.read("sshka_sessions", `state="attached"`); got != each {
		t.Errorf("sshka_sessions is %v, want the %d of --fdpass", got, each)
	}
	for _, p := range all {
		p.send("after\n")
		p.expect("after")
		p.stdin.Close()
		p.wait(0)
		l.quiet(t, p)
	}
	n.expect(equal(0), "sshka_sessions", `state="attached"`)
	if got := n.read("sshka_link_dials_total", `result="ok"`); got != 1 {
		t.Errorf("the daemon dialled %v times, want once", got)
	}
	if got := l.numbers(t, relay, relayAdmin).read("sshka_sessions_opened_total", `result="ok"`); got != 2*each {
		t.Errorf("the relay opened %v sessions, want %d", got, 2*each)
	}
}

func TestTheDaemonsClientsLeaveNothingWhenKilled(t *testing.T) {
	t.Parallel()
	const within = 2 * time.Second
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	daemon := l.startDaemon(t, nil)
	for name, way := range map[string][]string{"ProxyCommand": {l.through(t, nil)}, "fdpass": l.passing(t, nil)} {
		t.Run(name, func(t *testing.T) {
			p := l.ssh(t, append(way, targetIP, `echo "session $PPID."; cat`)...)
			p.expect(".\n")
			session := parseSession(t, p.stdout.String())
			p.signal(unix.SIGKILL)
			if !gone(t, session, within) {
				t.Errorf("sshd's process of the session still runs after %s", within)
			}
		})
	}
	l.numbers(t, client, proxyAdmin).expect(equal(0), "sshka_sessions", `state="attached"`)
	if daemon.endsWithin(0) {
		t.Errorf("the daemon ended with %d", daemon.status)
	}
}

// Whoever asks the daemon reads the same next step as whoever asks the relay.
func TestARefusalThroughTheDaemonHasANextStep(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, nil)
	const want = `10.99.0.2:2222 is not allowed by relay 198.51.100.10:7422; add a rule to relay.allow there, such as "10.99.0.2:2222"`
	for name, way := range map[string][]string{"ProxyCommand": {l.through(t, nil)}, "fdpass": l.passing(t, nil)} {
		p := l.ssh(t, append(way, "-p", "2222", targetIP, "true")...)
		p.wait(255)
		if got := p.stderr.String(); !strings.Contains(got, "sshka-proxy: "+want+"\n") {
			t.Errorf("%s: %q does not say %q", name, got, want)
		}
	}
}

// ssh's own sharing works on our connections, those that the daemon handed over too.
func TestControlMasterSharesOneConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startDaemon(t, nil)
	for name, way := range map[string][]string{"ProxyCommand": {l.through(t, nil)}, "fdpass": l.passing(t, nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := append(slices.Clone(way), "-oControlMaster=auto", "-oControlPath="+l.path("mux."+name), targetIP)
			master := l.ssh(t, append(shared, "echo $SSH_CONNECTION; cat")...)
			master.expect("\n")
			connection := master.stdout.String()
			second := l.ssh(t, append(shared, "echo $SSH_CONNECTION")...)
			second.wait(0)
			if got := second.stdout.String(); got != connection {
				t.Errorf("the second ssh came by %q, the master by %q", got, connection)
			}
			l.quiet(t, second)
			master.send("still\n")
			master.expect("still")
			master.stdin.Close()
			master.wait(0)
			l.quiet(t, master)
		})
	}
}

// What is wrong with the daemon is never ssh's trouble.
func TestADaemonThatIsOfNoUseIsPassedOver(t *testing.T) {
	t.Parallel()
	const otherPort = relayPort + 1
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.startRelay(t, otherPort, settings{"admin": `""`})

	// works logs in, while as many connections as wanted lead to the relay's port.
	works := func(t *testing.T, port, links int, s settings) {
		t.Helper()
		start := time.Now()
		p := l.ssh(t, l.through(t, s), targetIP, "echo here; cat")
		p.expect("here\n")
		took := time.Since(start)
		l.expectLinks(t, port, links)
		p.stdin.Close()
		p.wait(0)
		l.quiet(t, p)
		t.Logf("there after %s", took.Round(time.Millisecond))
		// A second for the daemon, the rest for a busy machine's login.
		if took > 5*time.Second {
			t.Errorf("ssh was there after %s", took)
		}
	}
	const own, daemons, both = 1, 1, 2 // links

	t.Run("there is none", func(t *testing.T) { works(t, relayPort, own, nil) })
	t.Run("it is for another relay", func(t *testing.T) {
		daemon := l.startDaemon(t, nil)
		works(t, otherPort, own, settings{"relay": fmt.Sprintf(`"%s:%d"`, relayIP, otherPort)})
		daemon.signal(unix.SIGTERM)
		daemon.wait(0)
		if _, err := os.Stat(l.path(socketFile)); !os.IsNotExist(err) {
			t.Errorf("the socket when the daemon has ended: %v, want it gone", err)
		}
	})
	t.Run("it hangs", func(t *testing.T) {
		daemon := l.startDaemon(t, nil)
		daemon.signal(unix.SIGSTOP)
		works(t, relayPort, both, nil)
		daemon.signal(unix.SIGCONT)
		works(t, relayPort, daemons, nil)
		daemon.signal(unix.SIGTERM)
		daemon.wait(0)
	})
	t.Run("it was killed", func(t *testing.T) {
		daemon := l.startDaemon(t, nil)
		during := l.ssh(t, l.through(t, nil), targetIP, "echo here; cat")
		during.expect("here\n")
		daemon.signal(unix.SIGKILL)
		during.send("after\n") // goes on over a link of its own
		during.expect("after\n")
		during.stdin.Close()
		during.wait(0)
		<-daemon.ended
		if _, err := os.Stat(l.path(socketFile)); err != nil {
			t.Fatalf("no socket was left behind, so this proves nothing: %v", err)
		}
		works(t, relayPort, own, nil)
		next := l.startDaemon(t, nil) // in spite of the old socket
		works(t, relayPort, daemons, nil)
		next.signal(unix.SIGTERM)
		next.wait(0)
	})
	for name, fake := range map[string]struct {
		greeting string
		stays    bool // and agrees to whatever it is asked
	}{
		"it is of another version":   {`{"version":"99.0.0","relay":"` + relayIP + `:7422"}` + "\n", true},
		"it speaks something else":   {"220 mail.example ESMTP\n", true},
		"it closes without a word":   {"", false},
		"it breaks off in its words": {`{"version":`, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := l.path(fmt.Sprintf("fake%d.sock", l.files.Add(1)))
			asked := serveFake(t, path, func(conn net.Conn) {
				fmt.Fprint(conn, fake.greeting)
				if fake.stays {
					fmt.Fprint(conn, "{}\n")
					io.Copy(io.Discard, conn)
				}
			})
			works(t, relayPort, own, settings{"socket": path})
			if asked.Load() == 0 {
				t.Error("nobody asked the daemon")
			}
		})
	}
}

// serveFake answers on a unix socket, as a daemon might, until the test ends, and
// counts who came.
func serveFake(t *testing.T, path string, answer func(net.Conn)) *atomic.Int32 {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var came atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			wg.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(t.Context(), func() { conn.Close() })()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() { // the test's context has ended
		ln.Close()
		wg.Wait()
	})
	return &came
}

func TestFdpassWithoutDaemonSaysSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	alone := l.start(t, client, program(t, "sshka-proxy"), "--config", l.proxyConfig(nil), "--fdpass", targetIP, "22")
	alone.wait(1)
	line := oneLine(t, alone)
	if !strings.Contains(line, "--fdpass needs a running daemon") {
		t.Errorf("%q does not say what is missing", line)
	}
	if said := alone.stdout.String(); said != "" {
		t.Errorf("stdout, which is ssh's, got %q", said)
	}
	p := l.ssh(t, append(l.passing(t, nil), targetIP, "true")...)
	p.wait(255)
	if !strings.Contains(p.stderr.String(), line) {
		t.Errorf("ssh shows %q, want %q in it", p.stderr, line)
	}
}

func TestASecondDaemonOnOneSocketSaysSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	first := l.startDaemon(t, nil)
	second := l.start(t, client, program(t, "sshka-proxy"), "serve", "--config", l.proxyConfig(settings{"listen": "[]", "admin": `""`}))
	second.wait(1)
	if !strings.Contains(second.stderr.String(), "a daemon is running already") {
		t.Errorf("it said %q", second.stderr)
	}
	p := l.ssh(t, append(l.passing(t, nil), targetIP, "true")...)
	p.wait(0)
	if first.endsWithin(0) {
		t.Errorf("the first daemon ended with %d", first.status)
	}
}
