package session

import (
	"strings"
	"time"
	"unicode"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// maxUnsent is how much the application may write ahead of the carrier, in
	// bytes: what waits here cannot be taken back by a ^C.
	maxUnsent = 256 << 10
	// ackEvery is how much is stored at most before an acknowledgement is
	// urgent, in bytes.
	ackEvery = 256 << 10
	// startWindow is the window of a new session, in bytes.
	startWindow = 64 << 10
	// growTime is how often a window may double.
	growTime = 10 * time.Millisecond
)

// machine is one end of a session, without I/O. Offsets are absolute, counted
// from the session's first byte; a FIN counts as one more.
//
//	sending      una            next           end        limit
//	      ────────┴──────────────┴──────────────┴───────────┴────▶
//	       stored by   on the        not yet      the peer
//	       the peer    carrier       sent         takes no more
//
//	receiving    read                 received             limit
//	      ────────┴──────────────────────┴───────────────────┴───▶
//	       taken by the   stored here       room that was
//	       application                      promised
type machine struct {
	buffer   int     // bytes held at most, per direction
	memory   *Memory // may ask for less
	detached bool    // there is no carrier

	out      queue  // [una, end): sent and unacknowledged, or not sent yet
	una      uint64 // the peer has stored all before
	next     uint64 // goes on the carrier next
	outLimit uint64 // the peer has room up to here
	finned   bool   // the application has ended its direction: FIN stands at out.end

	granted  int       // of the account's, for the window beyond its start
	window   int       // bytes that the peer may send ahead of the application; grows
	since    time.Time // when the count of its growth began
	from     uint64    // and what had been read by then
	promised uint64    // the largest limit the peer was ever told
	in       queue     // [read, received)
	received uint64    // stored here; one past the end once the FIN has come
	peerFin  bool

	// What this carrier has told the peer. It belongs to the carrier: on the
	// next one it starts from what that one's hello said.
	toldReceived, toldLimit uint64

	readClosed bool        // the application reads no more
	resetLast  *wire.Reset // ours: to become resetOut when the peer has stored out
	resetOut   *wire.Reset // ours: to be sent until confirmed
	resetSent  bool        // on this carrier
	resetDone  bool        // confirmed by the peer
	resetIn    bool        // the peer's has come
	resetAcked bool        // and was confirmed
	failure    error       // why the application gets no more
}

func newMachine(buffer int, memory *Memory) machine {
	return machine{
		buffer: buffer, memory: memory, window: min(startWindow, buffer),
		in: queue{memory: memory}, out: queue{memory: memory},
	}
}

// inLimit is the offset below which we store: what was promised once stays.
func (m *machine) inLimit() uint64 {
	return max(m.promised, m.in.start+uint64(m.windowNow()))
}

// windowNow is the window in force.
func (m *machine) windowNow() int {
	window := min(m.window, m.buffer)
	if m.memory.Pressure() >= High {
		window = min(window, MinBuffer)
	}
	return window
}

// step is a change of the limit that is worth telling.
func (m *machine) step() uint64 { return uint64(m.windowNow() / 4) }

// grow lets the window follow what the application reads: one second's worth,
// which is more than a round trip. A window that is too small for the path still
// fills several times a second, and so it doubles until the path is what bounds it.
func (m *machine) grow(now time.Time) {
	passed := now.Sub(m.since)
	if passed < growTime {
		return
	}
	second := float64(m.in.start-m.from) / passed.Seconds()
	m.since, m.from = now, m.in.start
	more := min(m.window, m.buffer-m.window)
	if second > float64(m.window) && more > 0 && m.memory.Pressure() < High && m.memory.grant(more) {
		m.window += more
		m.granted += more
	}
}

// promise returns the limit for the peer to be told.
func (m *machine) promise() uint64 {
	m.promised = m.inLimit()
	return m.promised
}

// room is how many bytes the application may write now.
func (m *machine) room() int {
	most := m.buffer
	switch p := m.memory.Pressure(); {
	case p >= Tight && m.detached:
		return 0
	case p >= High:
		most = min(most, MinBuffer)
	}
	unsent := int(m.out.end - min(m.next, m.out.end))
	return max(0, min(most-m.out.len(), maxUnsent-unsent))
}

// write takes bytes from the application, at most room.
func (m *machine) write(p []byte) int {
	n := min(len(p), m.room())
	m.out.append(p[:n])
	return n
}

// closeWrite ends our direction at what has been written so far.
func (m *machine) closeWrite() { m.finned = true }

// closeRead tells that the application reads no more. Bytes that it will never
// see make the end unclean, as they do for TCP (RFC 1122 §4.2.2.13).
func (m *machine) closeRead() {
	m.readClosed = true
	if m.in.len() > 0 {
		m.abort(wire.CodeAborted, "closed with unread data")
	}
}

// abort ends both directions at once.
func (m *machine) abort(code wire.Code, message string) {
	if m.over() || m.resetOut != nil || m.resetIn {
		return
	}
	m.resetOut = &wire.Reset{Code: code, Message: message}
	if m.resetLast != nil { // it comes too late for all of out
		m.resetOut, m.resetLast = m.resetLast, nil
	}
	m.in.clear()
	m.fail(&ResetError{Code: code, Message: message, Local: true})
}

// abortLast is abort for the application, and the peer gets what was written first: what
// came before a reset can be read, as TCP has it.
func (m *machine) abortLast(code wire.Code, message string) {
	if m.out.len() == 0 {
		m.abort(code, message)
		return
	}
	if m.over() || m.aborted() {
		return
	}
	m.resetLast = &wire.Reset{Code: code, Message: message}
	m.in.clear()
	if m.failure == nil {
		m.failure = &ResetError{Code: code, Message: message, Local: true}
	}
}

// aborted reports whether either end has reset the session.
func (m *machine) aborted() bool { return m.resetLast != nil || m.resetOut != nil || m.resetIn }

// fail ends the application's side for the given reason. Bytes that arrived
// before can still be read.
func (m *machine) fail(err error) {
	if m.failure == nil {
		m.failure = err
	}
	m.out.clear()
}

// early is what an OPEN carries.
func (m *machine) early() []byte {
	p := make([]byte, min(m.out.len(), wire.MaxEarly))
	return p[:m.out.copyAt(p, 0)]
}

// attached starts a new carrier, after both hellos: what the peer said it has
// and takes, and what ours said.
func (m *machine) attached(received, limit, saidReceived, saidLimit uint64) error {
	if err := m.acked(received); err != nil {
		return err
	}
	m.next = max(received, m.una)
	m.outLimit = max(m.outLimit, limit) // a promise is kept over carriers
	m.toldReceived, m.toldLimit = saidReceived, saidLimit
	m.resetSent, m.resetAcked = false, false
	m.detached = false
	return nil
}

// acked drops what the peer has stored. An older value than known is normal
// while carriers change; one beyond what was sent is a violation.
func (m *machine) acked(received uint64) error {
	if received > m.sentEnd() {
		return wire.Violation("acknowledged offset %d, sent %d", received, m.sentEnd())
	}
	if received <= m.una {
		return nil
	}
	m.una = received
	m.next = max(m.next, received)
	if m.failure == nil || m.resetLast != nil {
		m.out.discard(min(received, m.out.end))
	}
	if m.resetLast != nil && m.out.len() == 0 {
		m.resetOut, m.resetLast = m.resetLast, nil
	}
	return nil
}

// sentEnd is one past the last offset that was ever sent or may be
// acknowledged.
func (m *machine) sentEnd() uint64 {
	if m.finned {
		return m.out.end + 1
	}
	return m.out.end
}

// store takes bytes from the carrier.
func (m *machine) store(offset uint64, p []byte) error {
	end := offset + uint64(len(p))
	switch {
	case end < offset:
		return wire.Violation("offset %d overflows", offset)
	case m.aborted():
		return nil // nobody will read them
	case offset > m.received:
		return wire.Violation("gap: offset %d, stored %d", offset, m.received)
	case m.peerFin && end > m.in.end:
		return wire.Violation("data after the end at %d", m.in.end)
	case end > m.inLimit():
		return wire.Violation("data up to %d, credit up to %d", end, m.inLimit())
	case end <= m.received:
		return nil // known already
	case m.readClosed:
		m.abort(wire.CodeAborted, "closed while data was arriving")
		return nil
	}
	m.in.append(p[m.received-offset:])
	m.received = end
	return nil
}

// finReceived takes the peer's end of stream.
func (m *machine) finReceived(offset uint64) error {
	switch {
	case m.aborted():
		return nil
	case m.peerFin && offset != m.in.end, offset < m.in.end:
		return wire.Violation("end at %d, stored %d", offset, m.in.end)
	case offset > m.in.end:
		return wire.Violation("gap: end at %d, stored %d", offset, m.in.end)
	}
	m.peerFin = true
	m.received = m.in.end + 1
	return nil
}

// handle takes any other frame.
func (m *machine) handle(msg wire.Message) error {
	switch msg := msg.(type) {
	case *wire.Data:
		return m.store(msg.Offset, msg.Bytes)
	case *wire.Fin:
		return m.finReceived(msg.Offset)
	case *wire.Ack:
		m.outLimit = max(m.outLimit, msg.Limit)
		return m.acked(msg.Received)
	case *wire.Reset:
		m.resetIn = true
		m.resetDone = true // theirs answers ours, too
		m.resetLast = nil
		m.fail(&ResetError{Code: msg.Code, Message: msg.Message})
	case *wire.ResetAck:
		if m.resetOut == nil {
			return wire.Unexpected(msg)
		}
		m.resetDone = true
	default:
		return wire.Unexpected(msg)
	}
	return nil
}

// read fills p with what has been stored.
func (m *machine) read(p []byte) int {
	n := m.in.copyAt(p, m.in.start)
	m.in.discard(m.in.start + uint64(n))
	return n
}

// ackWanted reports whether there is something to tell; ackUrgent whether it
// must not wait for the timer: a sender is about to run dry or to finish.
func (m *machine) ackWanted() bool {
	return m.received > m.toldReceived || m.inLimit() >= m.toldLimit+m.step()
}

func (m *machine) ackUrgent() bool {
	step := min(ackEvery, m.step())
	return m.peerFin && m.toldReceived < m.received ||
		m.received >= m.toldLimit && m.inLimit() > m.toldLimit || // the peer stands still
		m.received >= m.toldReceived+step ||
		m.inLimit() >= m.toldLimit+m.step()
}

// sendable is how many bytes of the application's may be sent now.
func (m *machine) sendable() int {
	if end := min(m.out.end, m.outLimit); end > m.next {
		return int(end - m.next)
	}
	return 0
}

// finDue reports whether the FIN goes next. One that has not gone before a reset does not:
// nothing looks complete that is not.
func (m *machine) finDue() bool { return m.finned && m.next == m.out.end && m.resetLast == nil }

// wants reports whether frames would send anything.
func (m *machine) wants(ackDue bool) bool {
	switch {
	case m.resetIn:
		return !m.resetAcked
	case m.resetOut != nil:
		return !m.resetSent
	}
	return m.sendable() > 0 || m.finDue() || m.ackWanted() && (ackDue || m.ackUrgent())
}

// frames appends what is to be sent now to b, whole frames only and at most
// wire.MaxFrame less yamux's header. ackDue: the timer has fired.
func (m *machine) frames(b []byte, ackDue bool) []byte {
	const most = wire.MaxData + wire.DataHeaderSize
	if m.resetIn {
		if !m.resetAcked {
			m.resetAcked = true
			b = wire.Append(b, &wire.ResetAck{})
		}
		return b
	}
	if m.resetOut != nil {
		if !m.resetSent {
			m.resetSent = true
			b = wire.Append(b, m.resetOut)
		}
		return b
	}
	sending := m.sendable() > 0
	if m.ackWanted() && (ackDue || sending || m.ackUrgent()) {
		m.toldReceived, m.toldLimit = m.received, m.promise()
		b = wire.Append(b, &wire.Ack{Received: m.toldReceived, Limit: m.toldLimit})
	}
	if sending {
		n := min(most-len(b)-wire.DataHeaderSize, m.sendable())
		b = wire.AppendDataHeader(b, m.next, n)
		b = b[:len(b)+n]
		m.out.copyAt(b[len(b)-n:], m.next)
		m.next += uint64(n)
	}
	if m.finDue() && len(b)+wire.DataHeaderSize <= most {
		b = wire.Append(b, &wire.Fin{Offset: m.out.end})
		m.next++
	}
	return b
}

// over reports whether nothing is left to tell the peer or to hear from it.
func (m *machine) over() bool {
	switch {
	case m.resetIn:
		return m.resetAcked
	case m.resetOut != nil:
		return m.resetDone
	}
	return m.finned && m.una == m.out.end+1 && m.peerFin && m.toldReceived == m.received
}

// ResetError is why a session ended before both directions did.
type ResetError struct {
	Code    wire.Code
	Message string
	Local   bool // this end reset it
}

func (e *ResetError) Error() string {
	if e.Message == "" {
		return "session reset: " + e.Code.String()
	}
	return "session reset: " + printable(e.Message)
}

// RefusedError is the relay's answer to an OPEN or a RESUME that it cannot
// fulfil.
type RefusedError struct {
	wire.Refused
}

func (e *RefusedError) Error() string {
	if e.Message == "" {
		return "refused by the relay: " + e.Code.String()
	}
	return printable(e.Message)
}

// printable is what the peer wrote with a blank for everything that is no visible
// character: it is shown on terminals.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
}

// RefusalCode is why the relay refused, for clients that want a number.
func (e *RefusedError) RefusalCode() wire.Code { return e.Code }
