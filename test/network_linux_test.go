package test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// nat2 is between the client and the internet when the client is in its second
// network.
const nat2 role = "nat2"

const (
	newPublicIP = "203.0.113.3" // of nat, when the provider has given it another
	portalPort  = "8080"
)

// addSecondNetwork makes another network for the client, with a NAT of its own.
// The client is not in it yet.
func (l *lab) addSecondNetwork() {
	l.t.Helper()
	l.check(addNamespace(l.ns(nat2)))
	l.check(runTool(fmt.Sprintf(`link add eth1 netns %[1]s type veth peer name lan netns %[2]s
link add wan netns %[2]s type veth peer name n2 netns %[3]s
`, l.ns(client), l.ns(nat2), l.ns(inet)), "ip", "-b", "-"))
	l.check(sysctl(l.ns(nat2), "net.ipv4.ip_forward", "1"))
	l.ip(nat2, `
		link set lo up
		addr add 10.78.0.1/24 dev lan
		addr add 192.0.2.2/24 dev wan
		link set lan up
		link set wan up
		route add default via 192.0.2.1`)
	l.ip(inet, `
		addr add 192.0.2.1/24 dev n2
		link set n2 up`)
	l.setNAT(nat2, silent, 10*time.Minute)
	// Room for a route that is preferred to this one.
	l.ip(client, `
		route add default via 10.77.0.1 metric 100
		route del default via 10.77.0.1 metric 0`)
}

// ip runs commands of ip in a namespace.
func (l *lab) ip(r role, commands string) {
	l.t.Helper()
	l.check(runTool(strings.TrimSpace(commands)+"\n", "ip", "-n", l.ns(r), "-b", "-"))
}

// moveAway takes the client out of its network and into the second one: address
// and route are others, and the old ones gone.
func (l *lab) moveAway() {
	l.t.Helper()
	l.ip(client, `
		addr flush dev eth0
		link set eth0 down
		addr add 10.78.0.2/24 dev eth1
		link set eth1 up
		route add default via 10.78.0.1`)
}

// moveBack is the way back.
func (l *lab) moveBack() {
	l.t.Helper()
	l.ip(client, `
		addr flush dev eth1
		link set eth1 down
		addr add 10.77.0.2/24 dev eth0
		link set eth0 up
		route add default via 10.77.0.1`)
}

// preferSecond brings the second network up beside the first, with the better route.
func (l *lab) preferSecond() {
	l.t.Helper()
	l.ip(client, `
		addr add 10.78.0.2/24 dev eth1
		link set eth1 up
		route add default via 10.78.0.1 metric 50`)
}

// unplug takes the client's link down for a while. Its routes have to be set anew.
func (l *lab) unplug(d time.Duration) {
	l.t.Helper()
	l.ip(client, "link set eth0 down")
	idle(d)
	l.ip(client, "link set eth0 up\nroute replace default via 10.77.0.1")
}

// forgetLinks lets a NAT forget all connections, a link among them.
func (l *lab) forgetLinks(t *testing.T, r role) {
	t.Helper()
	if l.knownLinks(t, r) == 0 {
		t.Fatalf("%s knows no link, so there is nothing to forget", r)
	}
	l.check(runIn(l.ns(r), "", "conntrack", "-F"))
}

// knownLinks returns how many connections to the relay a NAT takes for established.
func (l *lab) knownLinks(t *testing.T, r role) int {
	t.Helper()
	p := l.start(t, r, "conntrack", "-L", "-p", "tcp", "--dport", "7422", "--state", "ESTABLISHED")
	p.wait(0)
	return strings.Count(p.stdout.String(), "\n")
}

// rebootNAT takes the client's NAT down for a while. It knows nothing afterwards.
func (l *lab) rebootNAT(t *testing.T, d time.Duration) {
	t.Helper()
	l.forgetLinks(t, nat)
	l.ip(nat, "link set lan down\nlink set wan down")
	idle(d)
	if n := l.knownLinks(t, nat); n > 0 {
		t.Fatalf("nat knows %d links after its reboot", n)
	}
	l.ip(nat, "link set wan up\nlink set lan up\nroute replace default via "+inetIP)
}

// renumberNAT gives the client's NAT another public address.
func (l *lab) renumberNAT() {
	l.t.Helper()
	l.ip(nat, `
		addr del 203.0.113.2/24 dev wan
		addr add `+newPublicIP+`/24 dev wan
		route replace default via `+inetIP)
	l.check(runIn(l.ns(nat), "", "conntrack", "-F"))
}

// The directions of a rule in inet.
const (
	upwards   = `iifname { "n0", "n2" }`
	downwards = `iifname "r0"`
)

// obstruct puts a rule on what inet forwards, "" for none.
func (l *lab) obstruct(rule string) {
	l.t.Helper()
	l.check(runIn(l.ns(inet), fmt.Sprintf(`
table inet obstacle
flush table inet obstacle
table inet obstacle {
	chain forward {
		type filter hook forward priority filter; policy accept;
		%s
	}
}
`, rule), "nft", "-f", "-"))
}

// refuse lets the relay's host refuse connections, or no longer.
func (l *lab) refuse(on bool) {
	l.t.Helper()
	rule := ""
	if on {
		rule = upwards + " tcp dport 7422 tcp flags & (syn|ack) == syn reject with tcp reset"
	}
	l.obstruct(rule)
}

// portal runs a captive portal in the client's NAT, which captures nothing yet,
// and counts what it is asked.
func (l *lab) portal(t *testing.T) (asked *atomic.Int32) {
	t.Helper()
	ln, err := listenIn(l.ns(nat), net.JoinHostPort("10.77.0.1", portalPort))
	l.check(err)
	asked = new(atomic.Int32)
	server := &http.Server{
		Handler: http.RedirectHandler("http://login.test/", http.StatusFound),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				asked.Add(1)
			}
		},
		ReadHeaderTimeout: patience,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(ln)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return asked
}

// capturing lets the portal answer instead of the relays, or no longer.
func (l *lab) capturing(on bool) {
	l.t.Helper()
	rule := ""
	if on {
		rule = `iifname "lan" tcp dport 7422 redirect to :` + portalPort
	}
	l.check(runIn(l.ns(nat), fmt.Sprintf(`
table ip portal
flush table ip portal
table ip portal {
	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		%s
	}
}
`, rule), "nft", "-f", "-"))
}

// lengthen puts a line in the place of the wire between the client's NAT and the
// internet. Up leads from the client. It is done before anything runs over it.
func (l *lab) lengthen(t *testing.T, up, down conditions) *wan {
	t.Helper()
	l.ip(nat, "link del wan")
	w := newWAN(t, wanEnd{l.ns(nat), "wan"}, wanEnd{l.ns(inet), "n0"}, up, down)
	l.ip(nat, `
		addr add 203.0.113.2/24 dev wan
		link set wan up
		route add default via `+inetIP)
	l.ip(inet, `
		addr add 203.0.113.1/24 dev n0
		link set n0 up`)
	return w
}
