// Package proxy is the root of sshka-proxy's packages: their map, the version
// that all of them have, and the place where proxy and relay are joined in memory
// by an example.
//
//	data     ssh ─▶ inbound ─▶ client ─▶ session ─▶ link ─▶ transport ══ TLS 1.3 ══▶ transport ─▶ link ─▶ session ─▶ relay ─▶ sshd
//	control  config.yaml ─▶ config ─▶ client.Config, relay.Config ─▶ New ─▶ Run(ctx) ─▶ returns when all it started has ended
//	facts    Trace structs of optional funcs ─▶ metrics, log; Snapshot ─▶ status
//
// Two seams hold it together. DialContext(ctx, network, address): inbound asks
// for it, client provides it, relay fulfils it with a real dialer. Carriers,
// Open(ctx): the owner of a session asks for a carrier, a link provides one.
//
// Each package stands on a floor and imports only from floors below its own,
// never sideways; only the commands join everything. floors_test.go reads this
// table and holds it:
//
//	wire       floor 0  every message and frame as bytes; nothing else
//	heartbeat  floor 0  when to beat, how an answer is judged, when a peer is lost
//	splice     floor 0  two connections joined until both directions have ended
//	notice     floor 0  that the computer has woken up, or its network has changed
//	systemd    floor 0  what the service manager is told, and gives; only importer of go-systemd
//	status     floor 0  what a running process is doing: plain data and its HTTP handler
//	session    floor 1  one byte stream over successive carriers
//	link       floor 1  one multiplexed connection with beats; only importer of yamux
//	keyauth    floor 1  an ssh key or a ticket proven over a TLS connection
//	inbound    floor 1  what clients speak becomes DialContext; only importer of go-socks5
//	transport  floor 2  TLS 1.3 between proxy and relay, and the handshake on it
//	client     floor 3  a link kept up; sessions carried through it
//	relay      floor 3  links accepted, sessions admitted, targets dialled
//	config     floor 4  YAML in; both Configs out, every complaint with its place
//	metrics    floor 4  every exported number, filled from Traces; only importer of Prometheus
//
// internal/socket, below all floors, asks sockets for what net does not tell.
// internal/simnet is a network for tests and imported by nothing else.
//
// To read the code, take the table's order. docs/protocol.md says what goes over
// the wire, docs/terms.md what the words mean, docs/decisions why it is so.
package proxy
