package wire

import "time"

// Beat asks the peer for a sign of life.
type Beat struct {
	// Seq counts the sender's beats from 1.
	Seq uint64
}

// Type is TypeBeat.
func (*Beat) Type() Type { return TypeBeat }

func (m *Beat) appendBody(b []byte) []byte { return appendU64(b, m.Seq) }
func (m *Beat) parseBody(f *fields)        { m.Seq = f.u64("seq") }

// BeatAck answers a BEAT. When several wait to be answered, the latest is
// enough.
type BeatAck struct {
	// Seq is the answered beat's.
	Seq uint64
}

// Type is TypeBeatAck.
func (*BeatAck) Type() Type { return TypeBeatAck }

func (m *BeatAck) appendBody(b []byte) []byte { return appendU64(b, m.Seq) }
func (m *BeatAck) parseBody(f *fields)        { m.Seq = f.u64("seq") }

// Receipt tells how much has arrived, end to end, below any middlebox that
// terminates TCP.
type Receipt struct {
	// Bytes counts everything read from the link above TLS since its WELCOME.
	Bytes uint64
}

// Type is TypeReceipt.
func (*Receipt) Type() Type { return TypeReceipt }

func (m *Receipt) appendBody(b []byte) []byte { return appendU64(b, m.Bytes) }
func (m *Receipt) parseBody(f *fields)        { m.Bytes = f.u64("bytes") }

// GoAway announces that the sender is about to close the link and opens
// nothing new on it.
type GoAway struct {
	// After is when to come back, in whole milliseconds. Zero: at once.
	After time.Duration
	// Reason is one word or line for a log, at most MaxText bytes.
	Reason string
}

// Type is TypeGoAway.
func (*GoAway) Type() Type { return TypeGoAway }

func (m *GoAway) appendBody(b []byte) []byte {
	return appendText(appendMillis(b, m.After), m.Reason)
}

func (m *GoAway) parseBody(f *fields) {
	m.After = f.millis("after")
	m.Reason = f.text("reason")
}

// SlowDown tells a peer that it beats too fast. A peer that goes on is dropped.
type SlowDown struct {
	// Interval is the shortest time between beats that the sender welcomes, in
	// whole milliseconds.
	Interval time.Duration
}

// Type is TypeSlowDown.
func (*SlowDown) Type() Type { return TypeSlowDown }

func (m *SlowDown) appendBody(b []byte) []byte { return appendMillis(b, m.Interval) }
func (m *SlowDown) parseBody(f *fields)        { m.Interval = f.millis("interval") }
