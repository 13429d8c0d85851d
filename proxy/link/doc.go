// Package link is one authenticated connection between proxy and relay: carriers
// multiplexed by yamux, a control stream with beats, one writer that schedules
// all of it, and a verdict when the peer is gone.
//
//	meter := link.NewMeter(tcp)              // counts bytes below TLS
//	l, err := link.Client(tlsConn, meter, link.Config{})
//	go func() { lost = l.Run(ctx) }()        // blocks until the link ends
//	carrier, err := l.Open(ctx)
//
// A carrier is not a yamux stream. yamux v0.1.2 opens and closes the streams; their
// data goes past it, since it would be copied twice, handed over twice, and read and
// written under locks that a slow line holds (docs/decisions/0018-data-past-yamux.md). A
// carrier's Write, Close and Open return within 10 ms of Close or the context's
// end whatever the connection does. To that end only the link's writer (writer.go) ever
// writes to the connection, and callers wait for the writer or for the end:
//
//	session ─▶ carrier.Write ─▶ queue ─┐
//	session ─▶ carrier.Write ─▶ queue ─┼─▶ writer ─▶ TLS ─▶ meter ─▶ TCP
//	beats, answers, GOAWAY ─▶ flags ───┤
//	yamux ─▶ framer ─▶ SYN, ACK, FIN ──┘
//
//	session ◀─ carrier.Read ◀─ inbox ◀─┬─ framer ◀─ TLS ◀─ meter ◀─ TCP
//	beats, answers, GOAWAY ◀───────────┤
//	yamux ◀─ SYN, ACK, FIN, RST ◀──────┘
//
// The writer is a goroutine only while there is something to write.
//
// What else of yamux v0.1.2 is turned off or kept away, and why, stands beside
// muxConfig. The package is the only importer of yamux.
package link
