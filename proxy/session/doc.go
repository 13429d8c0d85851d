// Package session carries one byte stream between a client and its target over
// whatever carrier is there. docs/protocol.md §5 is its contract: a session is
// byte-exact or ends with an error at both ends, never silently short, never
// doubled.
//
// Two halves:
//
//   - machine decides. It is pure: no I/O, no clock, no goroutine. It knows the
//     offsets, holds what the peer has not stored yet and what the application
//     has not read yet, and says which frames to send.
//   - Session joins a machine to the world: Read and Write for the application,
//     Attach or Answer for a carrier, deadlines, the acknowledgement timer.
//
// The proxy's end opens a session and offers it carriers:
//
//	s := session.Open(session.Config{}, wire.Target{Host: "db.internal", Port: 22})
//	go splice.Join(ctx, client, s)
//	err := s.Attach(ctx, carrier, instance)
//
// The relay's end is found by what the carrier says first:
//
//	req, err := session.Receive(carrier)
//	s := session.Accept(session.Config{}, req.Open)
//	err = s.Answer(ctx, req, secret)
//
// A session ends cleanly when both directions have ended and both ends know it.
// Until then each end keeps what the other may still need.
package session
