// Package heartbeat decides when a link sends a beat, how an answer is judged
// and when the peer is lost. It is a pure machine: it holds no timer, starts no
// goroutine and reads no clock, so a night passes in a test in microseconds.
//
// Time is a time.Duration since the link began, which is monotonic by
// construction. The owner of a link does
//
//	m := heartbeat.New(policy, rand.Float64)
//	for {
//		at, ok := m.Next()           // arm one timer for at
//		...
//		m.Observe(sent, received)    // when did bytes last move?
//		switch d := m.Advance(now); {
//		case d.Lost:
//			return ErrLost
//		case d.Beat:
//			send(d.Seq)
//		}
//	}
//
// and calls Ack when an answer arrives.
//
//	    interval without bytes sent, or without bytes received
//	┌────────┐ ─────────────────────────────────▶ ┌─────────────┐
//	│  idle  │                                    │ outstanding │──┐ timeout, nothing received:
//	└────────┘ ◀───────────────────────────────── └─────────────┘◀─┘ a miss, and the next beat
//	             BEAT_ACK, or any byte received          │
//	                                                     │ count_max misses in a row
//	                                                     ▼
//	                                                   lost
//
// The vocabulary is OpenSSH's (ssh_config(5), ServerAliveInterval and
// ServerAliveCountMax): 60s/60s/3 loses a silent peer 180 s after the first
// unanswered beat, which is 240 s after its last byte.
package heartbeat
