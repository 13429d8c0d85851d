package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// role is a place in the small internet.
type role string

const (
	client role = "client" // where ssh and sshka-proxy run
	nat    role = "nat"    // between the client and the internet
	inet   role = "inet"   // the internet: a router
	relay  role = "relay"  // where sshka-relay runs
	natt   role = "natt"   // between the relay and the target
	target role = "target" // where sshd runs
)

// The addresses that tests speak of.
const (
	relayIP    = "198.51.100.10"
	relayIP6   = "2001:db8:51::10"
	relayName  = "relay.test" // known to nobody, unless a test runs a resolver
	targetIP   = "10.99.0.2"
	targetIP6  = "fd99::2"
	targetName = "target.test" // known to the relay only
	inetIP     = "203.0.113.1" // of the router, where a test may put a host
	loopbackIP = "127.0.0.1"
)

// commandNames are names of the target that are commands of the programs, too.
var commandNames = []string{"serve", "demo"}

// patience bounds the wait for an event that comes at once on an idle machine.
const patience = 15 * time.Second

// addresses are commands for ip, one batch for each namespace. IPv6 is routed,
// IPv4 is translated by both NATs.
var addresses = map[role]string{
	client: `
		addr add 10.77.0.2/24 dev eth0
		addr add 2001:db8:77::2/64 dev eth0 nodad
		link set eth0 up
		route add default via 10.77.0.1
		route add default via 2001:db8:77::1`,
	nat: `
		addr add 10.77.0.1/24 dev lan
		addr add 2001:db8:77::1/64 dev lan nodad
		addr add 203.0.113.2/24 dev wan
		addr add 2001:db8:113::2/64 dev wan nodad
		link set lan up
		link set wan up
		route add default via 203.0.113.1
		route add default via 2001:db8:113::1`,
	inet: `
		addr add 203.0.113.1/24 dev n0
		addr add 2001:db8:113::1/64 dev n0 nodad
		addr add 198.51.100.1/24 dev r0
		addr add 2001:db8:51::1/64 dev r0 nodad
		link set n0 up
		link set r0 up
		route add 2001:db8:77::/64 via 2001:db8:113::2`,
	relay: `
		addr add 198.51.100.10/24 dev eth0
		addr add 2001:db8:51::10/64 dev eth0 nodad
		addr add 10.88.0.1/24 dev eth1
		addr add fd88::1/64 dev eth1 nodad
		link set eth0 up
		link set eth1 up
		route add default via 198.51.100.1
		route add default via 2001:db8:51::1
		route add 10.99.0.0/24 via 10.88.0.2
		route add fd99::/64 via fd88::2`,
	natt: `
		addr add 10.88.0.2/24 dev lan
		addr add fd88::2/64 dev lan nodad
		addr add 10.99.0.1/24 dev wan
		addr add fd99::1/64 dev wan nodad
		link set lan up
		link set wan up`,
	target: `
		addr add 10.99.0.2/24 dev eth0
		addr add fd99::2/64 dev eth0 nodad
		link set eth0 up
		route add default via fd99::1`,
}

// lab is one small internet, and what runs in it.
type lab struct {
	t      *testing.T
	dir    string // keys, configurations and states; removed with the lab
	prefix string
	files  atomic.Int32 // configurations of sshka-proxy
}

var labs atomic.Int32

// newLab builds a lab with an sshd in target and another in relay. The NATs
// forget nothing until setNAT. The lab ends with the test.
func newLab(t *testing.T) *lab {
	t.Helper()
	needLab(t)
	dir := filepath.Join(workDir, fmt.Sprintf("lab%d", labs.Add(1)))
	l := &lab{t: t, dir: dir, prefix: prefix + filepath.Base(dir) + "-"}
	t.Cleanup(func() {
		removeNamespaces(l.prefix)
		os.RemoveAll(dir)
	})
	l.check(os.Mkdir(dir, 0o700))
	l.check(os.Mkdir(l.path("home"), 0o700))
	l.wire()
	l.makeKeys()
	l.startSSHD(target, targetIP, targetIP6)
	l.startSSHD(relay, relayIP, relayIP6)
	return l
}

// check ends the test if building the lab failed: that is no verdict on what is tested.
func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
}

// ns returns the name of a namespace.
func (l *lab) ns(r role) string { return l.prefix + string(r) }

// path returns the path of a file of the lab.
func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// write makes a file that only its owner reads, and returns its path.
func (l *lab) write(name, text string) string {
	l.t.Helper()
	l.check(os.WriteFile(l.path(name), []byte(text), 0o600))
	return l.path(name)
}

// wire joins the namespaces.
func (l *lab) wire() {
	l.t.Helper()
	for r := range addresses {
		l.check(addNamespace(l.ns(r)))
		l.overlay(r)
	}
	var links strings.Builder
	for _, v := range []struct {
		a, b       role
		devA, devB string
	}{
		{client, nat, "eth0", "lan"},
		{nat, inet, "wan", "n0"},
		{inet, relay, "r0", "eth0"},
		{relay, natt, "eth1", "lan"},
		{natt, target, "wan", "eth0"},
	} {
		fmt.Fprintf(&links, "link add %s netns %s type veth peer name %s netns %s\n", v.devA, l.ns(v.a), v.devB, l.ns(v.b))
	}
	l.check(runTool(links.String(), "ip", "-b", "-"))
	for r, commands := range addresses {
		l.check(sysctl(l.ns(r), "net.ipv4.ip_forward", forwards(r)))
		l.check(sysctl(l.ns(r), "net.ipv6.conf.all.forwarding", forwards(r)))
		l.check(runTool("link set lo up\n"+strings.TrimSpace(commands)+"\n", "ip", "-n", l.ns(r), "-b", "-"))
	}
	for _, r := range []role{nat, natt} {
		l.setNAT(r, silent, 10*time.Minute)
	}
}

func forwards(r role) string {
	if r == nat || r == inet || r == natt {
		return "1"
	}
	return "0"
}

// overlay gives the processes of a namespace files of their own in /etc: the relay
// knows the target's name and a name server that knows nothing (answerNothing);
// root has a plain shell and a home without anyone's .bashrc, and may log in.
func (l *lab) overlay(r role) {
	l.t.Helper()
	dir := filepath.Join(netnsEtcDir, l.ns(r))
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	if r == relay {
		hosts += targetIP + " " + targetName + " " + strings.Join(commandNames, " ") + "\n"
	}
	l.check(os.MkdirAll(dir, 0o755))
	for name, text := range map[string]string{
		"hosts":       hosts,
		"resolv.conf": "nameserver " + resolverIP + "\noptions timeout:1 attempts:1\n",
		"passwd":      l.withRoot("/etc/passwd", "root:x:0:0:root:"+l.path("home")+":/bin/sh"),
		"shadow":      l.withRoot("/etc/shadow", "root:*:19000:0:99999:7:::"),
	} {
		l.check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
}

// withRoot returns a file of accounts with another line for root.
func (l *lab) withRoot(file, line string) string {
	l.t.Helper()
	text, err := os.ReadFile(file)
	l.check(err)
	return line + "\n" + regexp.MustCompile(`(?m)^root:.*\n`).ReplaceAllString(string(text), "")
}
