// Package transport makes the connection beneath a link: TCP, TLS 1.3, HELLO and
// AUTH. What it returns is authenticated both ways.
//
//	d := &transport.Dialer{Relay: "relay.example.com:7422", Known: known, ...}
//	conn, err := d.Dial(ctx)                  // the proxy's end
//	l, err := link.Client(conn, conn.Meter, link.Config{})
//
//	s := &transport.Server{Key: key, Verifier: v, ...}
//	conn, err := s.Handshake(ctx, tcp)        // the relay's end
//
// The relay is known by the SHA-256 of its public key (SPKI), pinned in the
// configuration or recorded at first use as ssh does; certificates carry the key
// and nothing else. The proxy is known by an ssh key, see package keyauth.
package transport
