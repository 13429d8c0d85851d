// Package inbound is where clients come in: what they speak becomes a target and
// a stream.
//
// Standard input and output, as ssh's ProxyCommand uses them:
//
//	stdio := inbound.NewStdio(os.Stdin, os.Stdout)
//	s, err := c.Start(ctx, target, stdio.Early)
//	result := splice.Join(ctx, stdio, s)
//
// A loopback port for SOCKS5, SOCKS4, SOCKS4a and HTTP CONNECT, told apart by the
// first byte, and ports that all lead to one target:
//
//	s := &inbound.Server{Dial: c.DialContext}
//	go s.Serve(ctx, ln)
//	go s.ServeForward(ctx, ln2, "db.internal:22")
//
// The daemon's unix socket, [Socket], and its client, [Daemon]. A relay's is a
// [Control]; [Operator] asks either.
//
// Names are never resolved here: they go to the relay as the client said them.
// Whoever can reach a port can use the relay with this process's key, so ports
// belong on loopback, and on Linux a client of another user is refused there.
package inbound
