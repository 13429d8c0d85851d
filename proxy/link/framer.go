package link

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// yamux's frame header (github.com/hashicorp/yamux/blob/master/spec.md).
const (
	muxHeader   = 12
	muxTypeData = 0
	muxTypePing = 2
)

// framer is the connection that yamux sees, whole frames at a time.
//
// yamux writes a data frame's header and its body one after the other, which
// would be two TLS records and two system calls: framer holds the header back
// and writes both as one. And yamux holds a stream's lock while a frame's body
// arrives, which takes seconds on a slow line and blocks the stream's reader and
// whoever wants to end it: framer hands on a frame once it is complete.
//
// It reports the connection's first error, which yamux hides.
type framer struct {
	conn    io.ReadWriter
	meter   *Meter // beneath conn
	close   func()
	caused  func(error)       // takes why the connection fails, if it is the first to know
	failed  func(error)       // the same, and nothing more arrives
	mute    *atomic.Bool      // nothing is to be written any more
	leaving func(n int)       // bytes of the link, above TLS, are about to be written
	passed  func(in, out int) // were read, or written
	unread  *unread

	writing sync.Mutex // a frame is written whole: yamux's send loop writes, and message

	deaf chan struct{} // closed by the receive loop with its first error

	// Only yamux's send loop writes.
	header [muxHeader]byte // held back
	held   bool

	// Only yamux's receive loop reads.
	frame *[]byte // pooled; nil while waiting for a frame
	rest  []byte  // of frame, not handed on yet
	start [muxHeader]byte
}

var joined = sync.Pool{New: func() any { b := make([]byte, 0, muxHeader+maxChunk); return &b }}

func (f *framer) Write(p []byte) (int, error) {
	if !f.held {
		if len(p) == muxHeader && p[1] == muxTypeData && binary.BigEndian.Uint32(p[8:]) > 0 {
			f.held = true
			copy(f.header[:], p)
			return len(p), nil
		}
		return f.write(nil, p)
	}
	f.held = false
	if len(p) > maxRecord { // many records anyhow
		return f.write(f.header[:], p)
	}
	b, _ := joined.Get().(*[]byte)
	defer joined.Put(b)
	*b = append(append((*b)[:0], f.header[:]...), p...)
	if n, err := f.write(nil, *b); err != nil {
		return max(0, n-muxHeader), err
	}
	return len(p), nil
}

// message writes p to a stream, past yamux's write side: a beat then costs one hand-over
// less. Of the stream's window only the peer keeps count, so it is for a stream on which
// so little is written that this is never reached.
func (f *framer) message(stream uint32, p []byte) error {
	b, _ := joined.Get().(*[]byte)
	defer joined.Put(b)
	*b = append((*b)[:0], 0, muxTypeData, 0, 0) // version 0, no flags
	*b = binary.BigEndian.AppendUint32(*b, stream)
	*b = binary.BigEndian.AppendUint32(*b, uint32(len(p)))
	*b = append(*b, p...)
	_, err := f.write(nil, *b)
	return err
}

// write writes a header, if there is one, and p, and returns how much of p.
func (f *framer) write(header, p []byte) (int, error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	if f.mute.Load() {
		return len(p), nil
	}
	f.leaving(len(header) + len(p))
	n, err := f.gathered(header, p)
	if err == nil {
		f.passed(0, len(header)+n)
	} else {
		f.caused(err)
		f.lastWords()
		f.failed(err)
	}
	return n, err
}

// maxRecord is how much of what is written TLS puts into one record (RFC 8446, 5.1).
const maxRecord = 16 << 10

// gathered writes the records that both become as one.
func (f *framer) gathered(header, p []byte) (n int, err error) {
	if len(p) <= maxRecord {
		return f.conn.Write(p)
	}
	f.meter.hold()
	if len(header) > 0 {
		_, err = f.conn.Write(header)
	}
	if err == nil {
		n, err = f.conn.Write(p)
	}
	if failed := f.meter.release(); err == nil && failed != nil {
		return 0, failed
	}
	return n, err
}

// lastWordsTime bounds the wait for them.
const lastWordsTime = 100 * time.Millisecond

// lastWords lets the receive loop read what has arrived, which may be a GOAWAY: yamux
// closes the connection as soon as it hears that a write failed.
func (f *framer) lastWords() {
	timer := time.NewTimer(lastWordsTime)
	defer timer.Stop()
	select {
	case <-f.deaf:
	case <-timer.C:
	}
}

func (f *framer) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if err := f.next(); err != nil {
			f.failed(err)
			close(f.deaf) // yamux reads no more after an error
			return 0, err
		}
	}
	n := copy(p, f.rest)
	if f.rest = f.rest[n:]; len(f.rest) == 0 && f.frame != nil {
		joined.Put(f.frame)
		f.frame = nil
	}
	return n, nil
}

// next reads one whole frame, with no buffer held while waiting for it.
func (f *framer) next() error {
	if _, err := io.ReadFull(f.conn, f.start[:]); err != nil {
		return err
	}
	f.rest = f.start[:]
	if f.start[1] == muxTypePing {
		// yamux starts a goroutine for each, which waits for as long as the peer does
		// not read. The control stream beats.
		return wire.Violation("a yamux ping")
	}
	n := binary.BigEndian.Uint32(f.start[8:])
	if f.start[1] != muxTypeData || n == 0 {
		f.passed(muxHeader, 0)
		return nil
	}
	if n > maxChunk {
		return wire.Violation("frame of %d bytes, at most %d", n, maxChunk)
	}
	f.frame, _ = joined.Get().(*[]byte)
	*f.frame = append((*f.frame)[:0], f.start[:]...)[:muxHeader+int(n)]
	if _, err := io.ReadFull(f.conn, (*f.frame)[muxHeader:]); err != nil {
		return err
	}
	f.rest = *f.frame
	f.passed(len(f.rest), 0)
	f.unread.arrived(int(n))
	return nil
}

// Close ends the connection beneath TLS: a TLS close waits for its alert to be
// written, which a peer that does not read can delay.
func (f *framer) Close() error {
	f.close()
	return nil
}
