// Package wire turns every message of the sshka protocol into bytes and back,
// and does nothing else: no I/O policy, no state, no clock.
//
// docs/protocol.md is normative; its test vectors are read by this package's
// tests. All messages share one frame: a type byte, a 24-bit big-endian body
// length, the body. Which types may appear where is the reader's business:
//
//	handshake  HELLO OFFER PICK PROOF TICKET WELCOME DENIED   before yamux
//	control    BEAT BEAT_ACK RECEIPT GOAWAY SLOW_DOWN         first yamux stream
//	session    OPEN RESUME OK REFUSED DATA FIN ACK
//	           RESET RESET_ACK MOVED                          every other stream
//
// A reader does
//
//	m, err := wire.Read(r)
//	switch m := m.(type) {
//	case *wire.Beat:
//		...
//	default:
//		err = wire.Unexpected(m)
//	}
//
// and a writer does
//
//	buf = wire.Append(buf[:0], &wire.BeatAck{Seq: 7})
//
// The protocol grows by new types: an unknown type with its high bit set is
// skipped, any other unknown type is an error. Bodies are exact: too short and
// too long are both errors. Only HELLO may be longer than this version knows,
// since it must be understood by every version there will ever be.
package wire
