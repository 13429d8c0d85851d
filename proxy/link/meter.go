package link

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// Meter is a connection that remembers when bytes last moved. It stands below
// TLS, since a record takes seconds on a slow line and yet its first byte proves
// that the peer lives.
type Meter struct {
	net.Conn
	epoch          time.Time
	sent, received atomic.Int64 // nanoseconds since epoch
	in, out        atomic.Uint64

	gather gather
	ahead  ahead
}

// NewMeter wraps a connection, before TLS does. It owns c: Close closes it.
func NewMeter(c net.Conn) *Meter {
	return &Meter{Conn: c, epoch: time.Now(), ahead: ahead{socket: socket.NewReader(c)}}
}

// Read reads and remembers.
func (m *Meter) Read(p []byte) (int, error) {
	n, arrived, err := m.ahead.read(m.Conn, p)
	if arrived > 0 {
		m.received.Store(int64(m.now()))
		m.in.Add(uint64(arrived))
	}
	return n, err
}

// Write writes and remembers.
func (m *Meter) Write(p []byte) (int, error) { return m.gather.write(p, m.emit) }

// hold holds back what is written until release writes it as one.
func (m *Meter) hold() { m.gather.hold() }

func (m *Meter) release() error { return m.gather.release(m.emit) }

func (m *Meter) emit(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	if n > 0 {
		m.sent.Store(int64(m.now()))
		m.out.Add(uint64(n))
	}
	return n, err
}

// Bytes returns how many bytes were read and written so far.
func (m *Meter) Bytes() (read, written uint64) { return m.in.Load(), m.out.Load() }

// now is the monotonic time since the meter was made.
func (m *Meter) now() time.Duration { return time.Since(m.epoch) }

// activity is when bytes were last sent and received.
func (m *Meter) activity() (sent, received time.Duration) {
	return time.Duration(m.sent.Load()), time.Duration(m.received.Load())
}
