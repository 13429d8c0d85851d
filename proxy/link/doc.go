// Package link is one authenticated connection between proxy and relay: carriers
// multiplexed by yamux, a control stream with beats, one writer that schedules
// all of it, and a verdict when the peer is gone.
//
//	meter := link.NewMeter(tcp)              // counts bytes below TLS
//	l, err := link.Client(tlsConn, meter, link.Config{})
//	go func() { lost = l.Run(ctx) }()        // blocks until the link ends
//	carrier, err := l.Open(ctx)
//
// A carrier is not a yamux stream. yamux v0.1.2 blocks in Write, Close and
// OpenStream for its ConnectionWriteTimeout when the peer stops reading; a
// carrier's Write, Close and Open return within 10 ms of Close or the context's
// end whatever the connection does. To that end nothing but the link's writer
// (writer.go) calls yamux to write, and callers only ever wait for the writer or
// for the end:
//
//	session ─▶ carrier.Write ─▶ queue ─┐
//	session ─▶ carrier.Write ─▶ queue ─┼─▶ writer ─▶ yamux ─▶ framer ─▶ TLS ─▶ meter ─▶ TCP
//	beats, answers, GOAWAY ─▶ flags ───┘
//
// Control messages go past yamux, whose write side costs a beat two hand-overs. The
// writer is a goroutine only while there is something to write.
//
// What else of yamux v0.1.2 is turned off or kept away, and why, stands beside
// muxConfig. The package is the only importer of yamux.
package link
