package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// bubble runs f in virtual time. yamux keeps its timers in a package-level
// sync.Pool, which must be empty between two bubbles.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	drain := func() {
		runtime.GC()
		runtime.GC()
	}
	drain()
	defer drain()
	synctest.Test(t, f)
}

// broken is a connection that the other end resets.
type broken struct{ net.Conn }

func (broken) Read([]byte) (int, error) { return 0, syscall.ECONNRESET }

// nobody authorizes no key.
type nobody struct{}

func (nobody) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, false
}

// scene is what check finds: one thing in it is wrong, or nothing.
type scene struct {
	yaml       string // keys below proxy:, beside relay and known_relays
	known      string // the text of known_relays; KEY is the relay's
	keys       error  // instead of keys
	lookup     error
	dial       error
	host, port string

	connection func(c net.Conn) // serves instead of the relay
	authorize  keyauth.Authorizer
	restart    bool // the relay keeps no sessions
	silent     bool // the relay lets in and answers no beat
	target     error
	server     func(c net.Conn)  // serves at the target
	options    map[string]string // what ssh -G says
	sshErr     error
}

// theKey is the relay's of every scene, and foreign another one.
var theKey = sync.OnceValue(func() *transport.RelayKey {
	key, err := transport.NewRelayKey()
	if err != nil {
		panic(err)
	}
	return key
})

const foreign = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

// look returns what check says of a scene, a line each, with KEY for the relay's
// key and MINE for ours, and the file's lines as they are afterwards.
func (v scene) look(t *testing.T) (said []string, known string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "known_relays")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(v.known, "KEY", theKey().Fingerprint)), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "proxy:\n  relay: relay.test\n  known_relays: " + file + "\n" + strings.ReplaceAll(v.yaml, "KEY", theKey().Fingerprint)
	cfg, err := config.Parse("c.yaml", []byte(text), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	ids, public, err := keyauth.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	if v.authorize == nil {
		v.authorize = onlyKey{public}
	}
	ctx, cancel := context.WithCancel(t.Context())
	serving, dial := v.serve(ctx, t)
	c := &checker{
		file: cfg, cfg: cfg.Client("test", func(string) string { return "" }),
		lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, v.lookup
		},
		dial: dial,
		sshConfig: func(context.Context, string) (map[string]string, error) {
			if v.options == nil && v.sshErr == nil {
				v.sshErr = errNoSSH
			}
			return v.options, v.sshErr
		},
		daemon: &inbound.Operator{},
		report: func(f finding) {
			line := strings.NewReplacer(theKey().Fingerprint, "KEY", ssh.FingerprintSHA256(public), "MINE", dir, "DIR").Replace(f.line())
			said = append(said, line)
		},
	}
	c.cfg.Dialer.Identities = func(context.Context) (*keyauth.Identities, error) {
		if v.keys != nil {
			return nil, v.keys
		}
		return ids, nil
	}
	if err := c.run(ctx, v.host, v.port); err != nil {
		c.fail(err)
	}
	cancel()
	serving.Wait()
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return said, string(after)
}

// serve runs the relay, or what stands in its place, and returns the way there.
func (v scene) serve(ctx context.Context, t *testing.T) (*sync.WaitGroup, func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	var serving sync.WaitGroup
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &transport.Server{Key: theKey(), Verifier: &keyauth.Verifier{Authorizer: v.authorize}}
	switch {
	case v.silent:
		v.connection = func(c net.Conn) {
			conn, err := server.Handshake(ctx, c, transport.Door{})
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, conn)
		}
	case v.connection == nil:
		policy, err := relay.ParsePolicy([]string{"*.ok:22"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rc := relay.Config{
			Transport: server, Window: 24 * time.Hour,
			Dialer: &relay.Dialer{
				Policy: policy, InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil }, Names: []string{"me"},
				LookupNetIP: func(_ context.Context, _, host string) ([]netip.Addr, error) {
					if host != "db.ok" && host != "db.ok." {
						return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
					}
					return []netip.Addr{netip.MustParseAddr("10.0.0.5")}, nil
				},
				DialContext: func(context.Context, string, string) (net.Conn, error) {
					if v.target != nil {
						return nil, v.target
					}
					near, far := net.Pipe()
					if v.server == nil {
						return broken{near}, nil
					}
					serving.Go(func() {
						defer far.Close()
						v.server(far)
					})
					return near, nil
				},
			},
		}
		if v.restart {
			rc.Window = 0
		}
		r, err := relay.New(rc)
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			if err := r.Serve(ctx, ln); err != nil {
				t.Error(err)
			}
		})
	}
	return &serving, func(_ context.Context, _, address string) (net.Conn, error) {
		if v.dial != nil {
			return nil, v.dial
		}
		if strings.HasPrefix(address, "[2001:db8::1]") {
			return nil, syscall.ENETUNREACH
		}
		near, far := net.Pipe()
		if v.connection != nil {
			serving.Go(func() {
				defer far.Close()
				v.connection(far)
			})
			return near, nil
		}
		select {
		case ln.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// speaks is a server at the target that says one thing and waits for the end.
func speaks(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

const (
	checkedTCP  = "ok   TCP 192.0.2.1:7422 in 0s"
	checkedKey  = "ok   TLS the relay's key is KEY, as it should be"
	checkedBeat = "ok   beat answered in 0s"
	inKnown     = "relay.test:7422 KEY\n"
)

// below are the layers that all is well with, up to the beat.
var below = []string{
	"ok   daemon no socket is configured: each ssh opens a link of its own",
	"ok   keys 1: MINE (ssh-ed25519, this process)",
	"ok   DNS relay.test is 192.0.2.1, 2001:db8::1",
	checkedTCP, checkedKey,
	"ok   authentication in 0s: the relay lets you in and keeps a session for 24h0m0s without a link",
	checkedBeat,
}

// TestCheckStopsAtTheCause: each scene's last line is the cause in its exact words.
func TestCheckStopsAtTheCause(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	for _, tt := range []struct {
		name string
		scene
		layers int // of below that are well
		want   string
	}{
		{
			"no key",
			scene{keys: keyauth.ErrNoKeys},
			1,
			"FAIL keys no ssh key found; make one (ssh-keygen -t ed25519)",
		},
		{
			"no usable key",
			scene{keys: &keyauth.NoKeysError{Problems: []error{errors.New("id is encrypted: add it to ssh-agent (ssh-add id)")}}},
			1,
			"FAIL keys no usable ssh key: id is encrypted: add it to ssh-agent (ssh-add id); or make one (ssh-keygen -t ed25519)",
		},
		{
			"an agent that hangs",
			scene{keys: errors.New("list ssh keys: gave up")},
			1,
			"FAIL keys list ssh keys: gave up; is ssh-agent running, and not locked?",
		},
		{
			"no such relay",
			scene{lookup: &net.DNSError{Err: "no such host", Name: "relay.test", IsNotFound: true}},
			2,
			"FAIL DNS no such host relay.test; check the relay's name",
		},
		{
			"a silent resolver",
			scene{lookup: &net.DNSError{Err: "i/o timeout", Name: "relay.test", IsTimeout: true}},
			2,
			"FAIL DNS no name server answers for relay.test; check this computer's network and its name servers",
		},
		{
			"a broken resolver",
			scene{lookup: &net.DNSError{Err: "server misbehaving", Name: "relay.test", Server: "192.0.2.53:53"}},
			2,
			"FAIL DNS look up relay.test: server misbehaving; check this computer's network and its name servers",
		},
		{
			"refused",
			scene{dial: syscall.ECONNREFUSED},
			3,
			"FAIL TCP 192.0.2.1:7422: connection refused, [2001:db8::1]:7422: connection refused; " +
				"the host is there, and nothing listens on that port: does the program run, is the port right?",
		},
		{
			"filtered",
			scene{dial: timeout},
			3,
			"FAIL TCP 192.0.2.1:7422: no answer, [2001:db8::1]:7422: no answer; filtered: a firewall drops packets to that port, or the host is down",
		},
		{
			"no route",
			scene{dial: &net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.EHOSTUNREACH}}},
			3,
			"FAIL TCP 192.0.2.1:7422: no route, [2001:db8::1]:7422: no route; is this computer online, the address right, the host up?",
		},
		{
			"a firewall here",
			scene{dial: fs.ErrPermission},
			3,
			"FAIL TCP 192.0.2.1:7422: not permitted, [2001:db8::1]:7422: not permitted; a firewall on this computer says no",
		},
		{
			"something else",
			scene{dial: errors.New("too many open files")},
			3,
			"FAIL TCP 192.0.2.1:7422: too many open files, [2001:db8::1]:7422: too many open files; look at this computer's network",
		},
		{
			"an ssh server",
			scene{connection: func(c net.Conn) {
				c.Read(make([]byte, 1<<14))
				io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
				io.Copy(io.Discard, c)
			}},
			4,
			"FAIL TLS the answer is not from an sshka relay; something else listens there: check host and port; a hotel's network wants a login first",
		},
		{
			"one that says nothing",
			scene{connection: func(c net.Conn) { io.Copy(io.Discard, c) }},
			4,
			"FAIL TLS no handshake within 10s; it accepts and says nothing: check host and port",
		},
		{
			"one that closes",
			scene{connection: func(c net.Conn) { c.Read(make([]byte, 1<<14)) }},
			4,
			"FAIL TLS the connection was closed in the middle of the handshake; something ended the connection: check host and port, and what stands in between",
		},
		{
			"another key than recorded",
			scene{known: "# one\nrelay.test:7422 " + foreign + "\n"},
			4,
			"FAIL TLS the relay shows the key KEY, DIR/known_relays:2 has " + foreign + "; compare with sshka-relay fingerprint there: " +
				"if the relay was set up anew, remove that line; otherwise someone is in between",
		},
		{
			"another key than pinned",
			scene{yaml: "  trust: " + foreign + "\n"},
			4,
			"FAIL TLS the relay shows the key KEY, the configuration wants " + foreign + "; compare with sshka-relay fingerprint there: " +
				"if the relay was set up anew, change proxy.trust; otherwise someone is in between",
		},
		{
			"strict and unknown",
			scene{yaml: "  trust: strict\n"},
			4,
			"FAIL TLS the relay shows the key KEY, which DIR/known_relays does not have, and trust is strict; " +
				"compare with sshka-relay fingerprint there: if it is the same, add the line \"relay.test:7422 KEY\"",
		},
		{
			"not authorized",
			scene{known: inKnown, authorize: nobody{}},
			5,
			"FAIL authentication denied by the relay: key not authorized (1 key offered); " +
				"put the line of a key's .pub file into the relay's authorized_keys; sshka-relay check there tells which file",
		},
		{
			"no beat",
			scene{known: inKnown, silent: true},
			-1,
			"FAIL beat no answer within 5s (proxy.heartbeat.timeout); raise the timeout if the path is that slow; else something lets only the first bytes through",
		},
		{
			"not allowed",
			scene{known: inKnown, host: "other.test", port: "22"},
			7,
			"FAIL target other.test:22 is not allowed by relay relay.test:7422; add a rule to relay.allow there, such as \"other.test:22\"",
		},
		{
			"no such target",
			scene{known: inKnown, host: "web.ok", port: "22"},
			7,
			"FAIL target no such host web.ok; the relay's resolver does not know the name: set HostName in ~/.ssh/config, or use an address",
		},
		{
			"target refuses",
			scene{known: inKnown, host: "db.ok", target: syscall.ECONNREFUSED},
			7,
			"FAIL target db.ok:22 refused the connection; is sshd running there, and is the port right?",
		},
		{
			"target has no route",
			scene{known: inKnown, host: "db.ok", target: syscall.EHOSTUNREACH},
			7,
			"FAIL target no route to db.ok:22; the relay has no route, or its firewall says no: look there",
		},
		{
			"target is silent",
			scene{known: inKnown, host: "db.ok", target: context.DeadlineExceeded},
			7,
			"FAIL target db.ok:22 did not answer within 10s; a firewall drops it, or the host is down: from the relay, nc -vz db.ok 22",
		},
		{
			"no room",
			scene{known: inKnown, host: "db.ok", target: syscall.EMFILE},
			7,
			"FAIL target the relay has no room for a connection to db.ok:22; try again later",
		},
		{
			"something else with the target",
			scene{known: inKnown, host: "db.ok", target: errors.New("odd")},
			7,
			"FAIL target the relay failed to connect to db.ok:22; the relay's log has the cause",
		},
		{
			"no target by ssh's configuration",
			scene{known: inKnown, host: "db", options: map[string]string{"hostname": "db.ok", "port": "x"}},
			7,
			"FAIL target \"x\" is not a port: 1 to 65535; check HostName and Port in ~/.ssh/config",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				said, known := tt.look(t)
				want := []string{}
				want = append(want, below[:max(tt.layers, 0)]...)
				if tt.silent {
					want = append(want, below[:5]...)
					want = append(want, "ok   authentication in 0s: the relay lets you in and ends a session with its link")
				}
				want = append(want, tt.want)
				if strings.Join(said, "\n") != strings.Join(want, "\n") {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
				}
				if want := strings.ReplaceAll(tt.known, "KEY", theKey().Fingerprint); known != want {
					t.Errorf("known_relays is now %q", known)
				}
			})
		})
	}
}

// TestCheckLooksAtTheServerAndAtSSH: all below is well.
func TestCheckLooksAtTheServerAndAtSSH(t *testing.T) {
	const reached, greeted = "ok   target db.ok:22 reached through the relay in 0s", "ok   banner SSH-2.0-OpenSSH_9.9 in 0s"
	sshd := speaks("SSH-2.0-OpenSSH_9.9\r\n")
	for _, tt := range []struct {
		name string
		scene
		want []string // above the target
	}{
		{"well", scene{server: sshd, options: map[string]string{"serveraliveinterval": "0"}}, []string{greeted, "ok   ssh ServerAliveInterval 0"}},
		{"lines before", scene{server: speaks("hello\r\nSSH-2.0-OpenSSH_9.9\r\n")}, []string{
			greeted, "ok   ssh is not installed: its ServerAliveInterval is not known",
		}},
		{"probes", scene{server: sshd, options: map[string]string{"serveraliveinterval": "15", "serveralivecountmax": "3"}}, []string{
			greeted,
			"warn ssh gives up after 45s without an answer (ServerAliveInterval 15 × ServerAliveCountMax 3), the relay keeps the session for 24h0m0s; " +
				"set ServerAliveInterval 0 for db.ok in ~/.ssh/config",
		}},
		{"patient probes", scene{server: sshd, options: map[string]string{"serveraliveinterval": "60", "serveralivecountmax": "1440"}}, []string{
			greeted, "ok   ssh gives up after 24h0m0s without an answer (ServerAliveInterval 60 × ServerAliveCountMax 1440), which is not before the relay, 24h0m0s",
		}},
		{"ssh's mistake", scene{server: sshd, sshErr: errors.New("exit status 255: Bad owner or permissions")}, []string{
			greeted, "warn ssh has no configuration for db.ok: exit status 255: Bad owner or permissions; correct ~/.ssh/config",
		}},
		{"silence", scene{server: speaks("")}, []string{"FAIL banner db.ok:22 says nothing for 5s; is it an ssh server, and not overloaded?"}},
		{"a closed door", scene{server: func(net.Conn) {}}, []string{
			"FAIL banner db.ok:22 closed the connection without a word; sshd refuses the relay's address, or has no room (MaxStartups): look at its log",
		}},
		{"a reset", scene{}, []string{
			"FAIL banner db.ok:22 reset the connection; sshd, or a firewall before it, refuses the relay's address: look at its log",
		}},
		{"a web server", scene{server: func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 \x1b[31m\r\n\r\n") }}, []string{
			`FAIL banner db.ok:22 says "HTTP/1.1 400 \x1b[31m"; that is no ssh server: check the port`,
		}},
		{"a flood", scene{server: func(c net.Conn) { io.WriteString(c, strings.Repeat("x", 1<<20)) }}, []string{
			`FAIL banner db.ok:22 says "` + strings.Repeat("x", 80) + `"; that is no ssh server: check the port`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				tt.known, tt.host = inKnown, "db.ok"
				said, _ := tt.look(t)
				want := append(append(append([]string{}, below...), reached), tt.want...)
				if strings.Join(said, "\n") != strings.Join(want, "\n") {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
				}
			})
		})
	}
}

func TestCheckRecordsNoRelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		said, known := scene{}.look(t)
		const want = "ok   TLS the relay's key is KEY, which is new: the first link would record it in DIR/known_relays; compare it with sshka-relay fingerprint there"
		if said[4] != want || len(said) != len(below) || known != "" {
			t.Errorf("%q, %q", said, known)
		}
	})
}

func TestCheckOfDirect(t *testing.T) {
	for _, tt := range []struct {
		scene
		want string
	}{
		{scene{dial: syscall.ECONNREFUSED}, "FAIL target 192.0.2.9:22: connection refused; the host is there, and nothing listens on that port: does the program run, is the port right?"},
		{
			scene{connection: func(c net.Conn) { io.WriteString(c, "SSH-2.0-X\n") }, options: map[string]string{"serveraliveinterval": "9", "serveralivecountmax": "1"}},
			"ok   target 192.0.2.9:22 reached directly in 0s\nok   banner SSH-2.0-X in 0s\n" +
				"ok   ssh ServerAliveInterval 9 × ServerAliveCountMax 1, and there is no relay that keeps a session for longer",
		},
	} {
		bubble(t, func(t *testing.T) {
			tt.host = "192.0.2.9"
			tt.yaml = ""
			said, _ := tt.direct(t)
			if got := strings.Join(said, "\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// direct is look without a relay.
func (v scene) direct(t *testing.T) (said []string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	serving, dial := v.serve(ctx, t)
	cfg, err := config.Parse("", []byte("proxy: {relay: direct}"), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{
		file: cfg, dial: dial,
		sshConfig: func(context.Context, string) (map[string]string, error) { return v.options, nil },
		report:    func(f finding) { said = append(said, f.line()) },
	}
	if err = c.run(ctx, v.host, v.port); err != nil {
		c.fail(err)
	}
	cancel()
	serving.Wait()
	return said, err
}

// TestCheckLooksAtTheDaemon: nothing about it is a failure.
func TestCheckLooksAtTheDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("", "sshka")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, tt := range map[string]struct{ says, want string }{
		"none":    {"", "ok   daemon none runs: each ssh opens a link of its own"},
		"version": {`{"version":"0.9","relay":"relay.test:7422"}`, `warn daemon version "0.9" runs, this program is 1; restart it; until then each ssh opens a link of its own`},
		"relay": {
			`{"version":"1","relay":"other:7422"}`,
			`warn daemon it is for relay "other:7422", ssh wants relay.test:7422; restart it with this configuration; until then each ssh opens a link of its own`,
		},
		"silent": {
			`{"version":"1","relay":"relay.test:7422"}` + "\n" + `{"error":"busy"}`,
			`warn daemon busy; restart it; until then each ssh opens a link of its own`,
		},
		"no link": {
			`{"version":"1","relay":"relay.test:7422"}` + "\n{}\n" + `{"pid":7,"links":[],"dial_error":{"text":"no route"}}`,
			"warn daemon version 1, pid 7, has no link: no route; see below; until then each ssh opens a link of its own",
		},
		"no link yet": {
			`{"version":"1","relay":"relay.test:7422"}` + "\n{}\n" + `{"pid":7,"links":[]}`,
			"warn daemon version 1, pid 7, has no link yet; see below; until then each ssh opens a link of its own",
		},
		"well": {`{"version":"1","relay":"relay.test:7422"}` + "\n{}\n" + `{"pid":7,"links":[{}]}`, "ok   daemon version 1, pid 7, has a link"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "")+".sock")
		var wg sync.WaitGroup
		var ln net.Listener
		if tt.says != "" {
			if ln, err = new(net.ListenConfig).Listen(t.Context(), "unix", path); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					io.WriteString(conn, tt.says+"\n")
					conn.(*net.UnixConn).CloseWrite()
					io.Copy(io.Discard, conn)
					conn.Close()
				}
			})
		}
		cfg, err := config.Parse("", []byte("proxy: {relay: relay.test}"), func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		var got finding
		c := &checker{file: cfg, daemon: &inbound.Operator{Path: path, Version: "1"}, report: func(f finding) { got = f }}
		c.daemonLayer(t.Context())
		if got.line() != tt.want || !got.OK {
			t.Errorf("%s: %s\nwant %s", name, got.line(), tt.want)
		}
		if ln != nil {
			ln.Close()
		}
		wg.Wait()
	}
}

func TestFindingsAsJSON(t *testing.T) {
	var b bytes.Buffer
	report, done := reporter(&b, true)
	report(finding{Layer: layerDNS, OK: true, Detail: "<well>"})
	report(finding{Layer: layerTCP, Detail: "refused", Next: "start it"})
	if err := done(); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0]["ok"] != true || got[0]["detail"] != "<well>" || got[1]["ok"] != false || got[1]["next"] != "start it" || got[1]["layer"] != "TCP" {
		t.Errorf("%v", got)
	}
	b.Reset()
	if _, done := reporter(&b, true); done() != nil || b.String() != "[]\n" {
		t.Errorf("%q", &b)
	}
}

// TestWhatTheRelaySaysLater are rare words of its.
func TestWhatTheRelaySaysLater(t *testing.T) {
	for _, tt := range []struct {
		err        error
		relay, own string // the next step, before and after its HELLO
	}{
		{transport.ErrVersion, "update the older of both programs", "is ssh-agent locked? The relay's log at level debug has its side"},
		{&keyauth.DeniedError{Code: wire.CodeBusy}, "try again later", "try again later"},
		{&keyauth.DeniedError{Code: wire.CodeVersion}, "try again later", "update the older of both programs"},
		{os.ErrDeadlineExceeded, "it accepts and says nothing: check host and port", "does a key wait for a touch?"},
	} {
		if got := relayNext(tt.err); got != tt.relay {
			t.Errorf("%v: %s", tt.err, got)
		}
		if got := proofNext(tt.err); got != tt.own {
			t.Errorf("%v: %s", tt.err, got)
		}
	}
}

// TestCheckAsksWhatSSHAsks: where ssh's ProxyCommand is this program, its words count
// and not the name that a person has for the host.
func TestCheckAsksWhatSSHAsks(t *testing.T) {
	const well = "ok   target db.ok:22 reached through the relay in 0s\nok   banner SSH-2.0-X in 0s\nok   ssh ServerAliveInterval 0"
	for _, tt := range []struct{ command, hostname, want string }{
		{"sshka-proxy db.ok %p", "jump.test", well},
		{"exec '/opt/my programs/sshka-proxy' -v --relay=other.test --interval 5s %h %p", "db.ok", well},
		{`"C:\\bin\\sshka-proxy.exe" %h 22`, "db.ok", well},
		{"nc db.ok %p", "web.ok", "FAIL target no such host web.ok; the relay's resolver does not know the name: set HostName in ~/.ssh/config, or use an address"},
		{"sshka-proxy $(next) 22", "web.ok", "FAIL target no such host web.ok; the relay's resolver does not know the name: set HostName in ~/.ssh/config, or use an address"},
		{"sshka-proxy relay.test %p", "db.ok", "FAIL target relay.test:22 is not allowed by relay relay.test:7422; add a rule to relay.allow there, such as \"relay.test:22\"; " +
			"or, since it is the relay's own host, ask for localhost: ProxyCommand sshka-proxy localhost 22"},
	} {
		bubble(t, func(t *testing.T) {
			said, _ := scene{known: inKnown, host: "alias", server: speaks("SSH-2.0-X\n"), options: map[string]string{
				"proxycommand": tt.command, "hostname": tt.hostname, "port": "22", "serveraliveinterval": "0",
			}}.look(t)
			if got, want := strings.Join(said, "\n"), strings.Join(below, "\n")+"\n"+tt.want; got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", tt.command, got, want)
			}
		})
	}
}

// TestFlagsOfTheProxyCommandCount, and those of the command itself more.
func TestFlagsOfTheProxyCommandCount(t *testing.T) {
	own := ownCommandOf(map[string]string{"proxycommand": "sshka-proxy --relay %h --config /c.yaml --interval 5s localhost %p", "hostname": "jump.test", "port": "2222"}, "jump", "")
	if own == nil || own.host != "localhost" || own.port != "2222" {
		t.Fatalf("%+v", own)
	}
	if f := own.under(flags{interval: intervalUnset}); f.relay != "jump.test" || f.config != "/c.yaml" || f.interval != 5*time.Second {
		t.Errorf("%+v", f)
	}
	if f := own.under(flags{relay: "r", config: "c", interval: 0}); f.relay != "r" || f.config != "c" || f.interval != 0 {
		t.Errorf("%+v", f)
	}
	for _, command := range []string{"", "none", "'", "sshka-proxy", "sshka-proxy %h", "sshka-proxy --nonsense %h %p", "sshka-proxy %h ssh", "sshka-proxy %h %p | tee x", `sshka-proxy %h %p \`} {
		if own := ownCommandOf(map[string]string{"proxycommand": command, "port": "22"}, "a", ""); own != nil {
			t.Errorf("%q is read as %+v", command, own)
		}
	}
}

func TestShellWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                   nil,
		"  a  b\t":           {"a", "b"},
		`a 'b c' "d e"f ''`:  {"a", "b c", "d ef", ""},
		`a\ b "\"" '\'`:      {"a b", `"`, `\`},
		`"it's" 'say "x"'`:   {"it's", `say "x"`},
		`'$(x)' 'a|b' "a;b"`: {"$(x)", "a|b", "a;b"},
	} {
		if got, ok := shellWords(line, false); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", line, got, ok, want)
		}
	}
	if got, ok := shellWords(`"C:\Program Files\x.exe" it's`, true); !ok || !slices.Equal(got, []string{`C:\Program Files\x.exe`, "it's"}) {
		t.Errorf("%q, %v", got, ok)
	}
	for _, line := range []string{`'a`, `"a`, `a\`, "a $b", `"$b"`, "a `b`", "a | b", "a > b", "(a)"} {
		if got, ok := shellWords(line, false); ok {
			t.Errorf("%s is read as %q", line, got)
		}
	}
}

// TestCheckSaysWhatItWaitsFor: each layer that takes long names itself.
func TestCheckSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []string
		c := &checker{
			wait:   func(what string) func() { waits = append(waits, what); return func() { waits = append(waits, "done") } },
			report: func(f finding) { waits = append(waits, f.Layer) },
		}
		c.begin(layerDNS, "looking up a name")
		c.begin(layerTCP, "connecting")
		c.ok(layerTCP, "well")
		c.ok(layerTLS, "well")
		if got, want := strings.Join(waits, ", "), "DNS: looking up a name, done, TCP: connecting, done, TCP, TLS"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
