package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Peers that lead two ports through two programs, one at each end, and know nothing of sessions.
// Their ports lie so far above the target's.
const (
	stunnelAbove = 100
	socatAbove   = 200
	haproxyAbove = 300
	farAbove     = 10 // more, at the far end
)

var hopPorts = []int{askPort, greetPort}

// hop is where one program of such a peer listens and where it leads to.
type hop struct{ from, to string }

// hops returns both ends' hops for every port.
func hops(above int) (near, far []hop) {
	for _, port := range hopPorts {
		middle := fmt.Sprintf("%s:%d", relayIP, port+above+farAbove)
		near = append(near, hop{fmt.Sprintf("%s:%d", loopbackIP, port+above), middle})
		far = append(far, hop{middle, fmt.Sprintf("%s:%d", relayIP, port)})
	}
	return near, far
}

// startStunnel joins two stunnels: a TLS connection for each session.
func startStunnel(st *stage) []*peer {
	st.t.Helper()
	if !st.installed(peerStunnel, "stunnel") {
		return nil
	}
	near, far := hops(stunnelAbove)
	const global = "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
	section := func(all []hop, more string) string {
		var text strings.Builder
		text.WriteString(global)
		for i, h := range all {
			fmt.Fprintf(&text, "[hop%d]\naccept = %s\nconnect = %s\nsslVersion = TLSv1.3\n%s", i, h.from, h.to, more)
		}
		return text.String()
	}
	keys := st.l.write("stunnel.pem", selfSigned(st))
	server := st.l.start(st.t, relay, "stunnel", st.l.write("stunnel_far.conf", section(far, "cert = "+keys+"\n")))
	proxy := st.l.start(st.t, st.near, "stunnel", st.l.write("stunnel_near.conf", section(near, "client = yes\n")))
	return st.hopped(&peer{name: peerStunnel, connect: connect0(stunnelAbove), roots: []*process{proxy, server}}, stunnelAbove)
}

// hopped waits until a peer listens at both ends.
func (st *stage) hopped(p *peer, above int) []*peer {
	st.t.Helper()
	for i, port := range hopPorts {
		n := len(p.roots) / 2 // programs at an end: one for all ports, or one for each
		st.l.waitListening(p.roots[i%n], st.near, port+above)
		st.l.waitListening(p.roots[n+i%n], relay, port+above+farAbove)
	}
	return []*peer{p}
}

// selfSigned makes a key and a certificate.
func selfSigned(st *stage) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	st.l.check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: relayName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	st.l.check(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	st.l.check(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}

// startSocat joins socats: no encryption, a process for each session at each end.
func startSocat(st *stage) []*peer {
	st.t.Helper()
	if !st.installed(peerSocat, "socat") {
		return nil
	}
	near, far := hops(socatAbove)
	p := &peer{name: peerSocat, connect: connect0(socatAbove), forks: true}
	for end, all := range [][]hop{near, far} {
		r := []role{st.near, relay}[end]
		for _, h := range all {
			host, port, _ := strings.Cut(h.from, ":")
			p.roots = append(p.roots, st.l.start(st.t, r, "socat", "-b", strconv.Itoa(64<<10),
				"TCP4-LISTEN:"+port+",bind="+host+",fork,reuseaddr,nodelay,backlog=1024", "TCP4:"+h.to+",nodelay"))
		}
	}
	return st.hopped(p, socatAbove)
}

// startHaproxy joins two haproxies: no encryption.
func startHaproxy(st *stage) []*peer {
	st.t.Helper()
	if !st.installed(peerHaproxy, "haproxy") {
		return nil
	}
	near, far := hops(haproxyAbove)
	start := func(r role, name string, all []hop) *process {
		var text strings.Builder
		text.WriteString("global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n")
		for i, h := range all {
			fmt.Fprintf(&text, "listen hop%d\n  bind %s\n  server target %s\n", i, h.from, h.to)
		}
		return st.l.start(st.t, r, "haproxy", "-db", "-f", st.l.write(name, text.String()))
	}
	proxy, server := start(st.near, "haproxy_near.cfg", near), start(relay, "haproxy_far.cfg", far)
	return st.hopped(&peer{name: peerHaproxy, connect: connect0(haproxyAbove), roots: []*process{proxy, server}}, haproxyAbove)
}
