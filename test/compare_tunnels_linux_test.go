package test

import (
	"fmt"
	"strconv"
	"strings"
)

// Tunnels that carry all sessions over one connection, as we do. Debian does not package
// them: they count where they are on PATH.
const (
	frpAbove    = 400
	chiselAbove = 500
	tunnelPort  = 7400 // chisel's own
	frpPort     = 7401
)

// startChisel joins a client and a server of chisel: ssh over a WebSocket.
func startChisel(st *stage) []*peer {
	st.t.Helper()
	if !st.installed(peerChisel, "chisel") {
		return nil
	}
	server := st.l.start(st.t, relay, "chisel", "server", "--host", relayIP, "--port", strconv.Itoa(tunnelPort), "--keepalive", "0")
	st.l.waitListening(server, relay, tunnelPort)
	near, _ := hops(chiselAbove)
	args := []string{"client", "--keepalive", "0", fmt.Sprintf("http://%s:%d", relayIP, tunnelPort)}
	for i, h := range near {
		args = append(args, fmt.Sprintf("%s:%s:%d", h.from, relayIP, hopPorts[i]))
	}
	proxy := st.l.start(st.t, st.near, "chisel", args...)
	for _, port := range hopPorts {
		st.l.waitListening(proxy, st.near, port+chiselAbove)
	}
	return []*peer{{name: peerChisel, connect: connect0(chiselAbove), roots: []*process{proxy, server}}}
}

// startFrp joins frpc and frps: yamux over TLS, as it comes. frpc is beside the target and
// dials frps beside the clients, so both have to be on one machine here.
func startFrp(st *stage) []*peer {
	st.t.Helper()
	if st.near != relay || !st.installed(peerFrp, "frps", "frpc") {
		return nil
	}
	server := st.l.start(st.t, st.near, "frps", "-c", st.l.write("frps.toml", fmt.Sprintf(
		"bindAddr = %q\nbindPort = %d\nproxyBindAddr = %q\nlog.level = \"error\"\n", loopbackIP, frpPort, loopbackIP)))
	st.l.waitListening(server, st.near, frpPort)
	var text strings.Builder
	fmt.Fprintf(&text, "serverAddr = %q\nserverPort = %d\nlog.level = \"error\"\n", loopbackIP, frpPort)
	for _, port := range hopPorts {
		fmt.Fprintf(&text, "[[proxies]]\nname = \"hop%d\"\ntype = \"tcp\"\nlocalIP = %q\nlocalPort = %d\nremotePort = %d\n", port, relayIP, port, port+frpAbove)
	}
	proxy := st.l.start(st.t, relay, "frpc", "-c", st.l.write("frpc.toml", text.String()))
	for _, port := range hopPorts {
		st.l.waitListening(server, st.near, port+frpAbove)
	}
	return []*peer{{name: peerFrp, connect: connect0(frpAbove), roots: []*process{server, proxy}}}
}
