package link

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// framer is the connection that yamux sees: of what is read from it and written to it
// only the headers that open and close streams, and grant windows. The data goes past
// yamux, to and from carriers, whole frames at a time.
//
// It reports the connection's first error, which yamux hides.
type framer struct {
	conn    io.ReadWriter
	meter   *Meter // beneath conn
	close   func()
	caused  func(error)  // takes why the connection fails
	mute    *atomic.Bool // nothing is to be written any more
	streams streams
	say     func(h header) error // lets yamux's header leave
	leaving func(n int)          // bytes of the link, above TLS, are about to be written
	passed  func(in, out int)    // were read, or written

	deaf  chan struct{} // closed by the receive loop with its first error
	ended atomic.Bool   // yamux has: it knows why

	// Only yamux's receive loop reads.
	start header
	rest  []byte // of start, not handed on yet
}

// streams is told what a connection says of its streams, in the order in which it does.
type streams interface {
	// signal takes the header of a frame that yamux sends, or that was received. An error
	// ends the link.
	signal(h header, sent bool) error
	// arrived takes the body of a data frame, and its memory, or returns it. It may wait.
	arrived(stream uint32, p parcel) error
}

// Write lets one of yamux's headers leave with what else does. It waits for nobody.
func (f *framer) Write(p []byte) (int, error) {
	if len(p) != muxHeader {
		return 0, fmt.Errorf("yamux writes %d bytes", len(p))
	}
	h := header(p)
	err := f.streams.signal(h, true)
	if err == nil {
		err = f.say(h)
	}
	if err != nil {
		f.caused(err)
		return 0, err
	}
	return len(p), nil
}

// write writes whole frames. Only the link's writer calls it.
func (f *framer) write(p []byte) error {
	if f.mute.Load() {
		return nil
	}
	f.leaving(len(p))
	if err := f.gathered(p); err != nil {
		if !f.ended.Load() {
			f.caused(err)
		}
		f.lastWords()
		return err
	}
	f.passed(0, len(p))
	return nil
}

// maxRecord is how much of what is written TLS puts into one record (RFC 8446, 5.1).
const maxRecord = 16 << 10

// gathered writes the records that p becomes as one.
func (f *framer) gathered(p []byte) error {
	if len(p) <= maxRecord {
		_, err := f.conn.Write(p)
		return err
	}
	f.meter.hold()
	_, err := f.conn.Write(p)
	if failed := f.meter.release(); err == nil {
		err = failed
	}
	return err
}

// lastWordsTime bounds the wait for them.
const lastWordsTime = 100 * time.Millisecond

// lastWords lets the receive loop read what has arrived, which may be a GOAWAY: the
// connection is closed as soon as it is known that a write failed.
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
			f.caused(err)
			close(f.deaf) // yamux reads no more after an error
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next reads frames until there is a header for yamux, with no buffer held while waiting
// for one.
func (f *framer) next() error {
	for {
		if _, err := io.ReadFull(f.conn, f.start[:]); err != nil {
			return err
		}
		h := f.start
		switch {
		case h.version() != 0:
			return wire.Violation("yamux version %d", h.version())
		case h.kind() == muxTypePing:
			// yamux starts a goroutine for each, which waits for as long as the peer does
			// not read. The control stream beats.
			return wire.Violation("a yamux ping")
		case h.kind() != muxTypeData || h.length() == 0:
			f.passed(muxHeader, 0)
			f.rest = f.start[:]
			return f.streams.signal(h, false)
		}
		// What its flags say is for yamux, too. An opening is before the data, an end after it.
		if h.flags()&muxSYN != 0 {
			if err := f.streams.signal(h.signal(muxSYN), false); err != nil {
				return err
			}
		}
		if err := f.body(h); err != nil {
			return err
		}
		if h.flags() != 0 {
			f.start = h.signal(h.flags())
			f.rest = f.start[:]
			return f.streams.signal(h.signal(h.flags()&^muxSYN), false)
		}
	}
}

// body reads a data frame's.
func (f *framer) body(h header) error {
	if h.length() > maxChunk { // which an int of 32 bits may not hold
		return wire.Violation("frame of %d bytes, at most %d", h.length(), maxChunk)
	}
	n := int(h.length())
	p := newParcel(n)
	if _, err := io.ReadFull(f.conn, p.b); err != nil {
		p.free()
		return err
	}
	f.passed(muxHeader+n, 0)
	return f.streams.arrived(h.stream(), p)
}

// Close ends the connection beneath TLS: a TLS close waits for its alert to be
// written, which a peer that does not read can delay.
func (f *framer) Close() error {
	f.ended.Store(true)
	f.close()
	return nil
}
