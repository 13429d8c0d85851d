package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What PuTTY calls its kinds of proxies in a saved session.
const (
	puttySOCKS4  = "1" // 4a for a name
	puttySOCKS5  = "2"
	puttyHTTP    = "3"
	puttyCommand = "5"
)

// puttyProxy returns the settings of a saved session that reaches its host through the daemon.
func puttyProxy(method string) settings {
	return settings{
		"ProxyMethod": method,
		"ProxyHost":   loopbackIP,
		"ProxyPort":   strconv.Itoa(socksPort),
		"ProxyDNS":    "2", // the names are the proxy's to resolve
	}
}

// puttyWays are the ways of PuTTY to its host: by the daemon, or by a command of its own.
func (l *lab) puttyWays(t *testing.T) map[string]settings {
	t.Helper()
	return map[string]settings{
		"socks4a": puttyProxy(puttySOCKS4),
		"socks5":  puttyProxy(puttySOCKS5),
		"http":    puttyProxy(puttyHTTP),
		"command": {
			"ProxyMethod":        puttyCommand,
			"ProxyTelnetCommand": program(t, "sshka-proxy") + " --config " + l.proxyConfig(nil) + " %host %port",
			"ProxyDNS":           "2",
		},
	}
}

// savePuTTY saves a session as PuTTY does, with the lab's keys and no keepalives.
func (l *lab) savePuTTY(t *testing.T, name string, s settings) {
	t.Helper()
	all := settings{
		"Protocol":          "ssh",
		"HostName":          targetName,
		"PortNumber":        "22",
		"UserName":          "root",
		"PublicKeyFile":     l.path("user.ppk"),
		"SSHManualHostKeys": l.hostPrint(t),
		"PingIntervalSecs":  "0",
		"TryAgent":          "0",
	}.with(s)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", key, all[key])
	}
	file := filepath.Join("home/.putty/sessions", name)
	l.check(os.MkdirAll(filepath.Dir(l.path(file)), 0o700))
	l.write(file, text.String())
}

// puttyKey makes the user's key as PuTTY reads it.
func (l *lab) puttyKey(t *testing.T) {
	t.Helper()
	p := l.start(t, client, "puttygen", l.path("user"), "-O", "private", "-o", l.path("user.ppk"))
	p.wait(0)
}

func TestPuTTYThroughTheProxySurvivesIdling(t *testing.T) {
	t.Parallel()
	needTools(t, "plink", "puttygen")
	l := newSOCKSLab(t, nil)
	l.puttyKey(t)
	for name, s := range l.puttyWays(t) {
		l.savePuTTY(t, name, s)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := l.start(t, client, "plink", "-batch", "-load", name, "echo $SSH_CONNECTION; cat")
			p.expect(" " + targetIP + " 22\n")
			idle(daemonIdle)
			p.send("after\n")
			p.expect("after")
			p.stdin.Close()
			p.wait(0)
		})
	}
}

// The line of docs/clients.md.
func TestPlinkTakesTheProxyOnItsCommandLine(t *testing.T) {
	t.Parallel()
	needTools(t, "plink", "puttygen")
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.puttyKey(t)
	p := l.start(t, client, "plink", "-batch", "-i", l.path("user.ppk"), "-hostkey", l.hostPrint(t),
		"-proxycmd", program(t, "sshka-proxy")+" --config "+l.proxyConfig(nil)+" %host %port", "root@"+targetName, "echo $SSH_CONNECTION")
	p.stdin.Close()
	p.wait(0)
	if got := p.stdout.String(); !strings.Contains(got, " "+targetIP+" 22\n") {
		t.Errorf("sshd says %q, want a connection to %s", got, targetIP)
	}
}

// The same PuTTY, without us: the other half of the proof.
func TestBarePuTTYDiesOfIdling(t *testing.T) {
	t.Parallel()
	needTools(t, "plink", "puttygen")
	l := newLab(t)
	l.setNAT(nat, rst, natIdle)
	l.puttyKey(t)
	l.savePuTTY(t, "bare", settings{"HostName": relayIP})
	p := l.start(t, client, "plink", "-batch", "-load", "bare", "cat")
	p.send("before\n")
	p.expect("before")
	idle(bareIdle)
	p.send("after\n")
	if !p.endsWithin(patience) || p.status == 0 {
		t.Fatalf("plink: %s, want it lost", p.state())
	}
	if said := p.stderr.String(); !strings.Contains(said, "FATAL ERROR: ") {
		t.Errorf("plink said %q, want a fatal error", said)
	}
}

func TestPSFTPAndPSCPArriveIntact(t *testing.T) {
	t.Parallel()
	needTools(t, "psftp", "pscp", "puttygen")
	l := newSOCKSLab(t, nil)
	l.puttyKey(t)
	const size = 3_000_001
	want := l.randomFile(t, "sent", size)
	for name, s := range l.puttyWays(t) {
		l.savePuTTY(t, name, s)
		t.Run(name, func(t *testing.T) {
			up, down, copied := l.path("up."+name), l.path("down."+name), l.path("copied."+name)
			batch := l.write("batch."+name, fmt.Sprintf("put %s %s\nget %[2]s %s\nquit\n", l.path("sent"), up, down))
			p := l.start(t, client, "psftp", "-batch", "-b", batch, name)
			p.waitWithin(bulkPatience, 0)
			p = l.start(t, client, "pscp", "-batch", "-q", l.path("sent"), name+":"+copied)
			p.waitWithin(bulkPatience, 0)
			for _, file := range []string{up, down, copied} {
				if got := sum(t, file); got != want {
					t.Errorf("%s: the file that arrived differs", file)
				}
			}
		})
	}
}
