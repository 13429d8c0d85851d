package link

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// maxChunk is the most that a frame carries, in bytes: with yamux's header it fills
	// 64 KiB.
	maxChunk = 64<<10 - muxHeader
	// maxGathered is how much of small frames is written at once, about, in bytes: a TLS
	// record.
	maxGathered = 16 << 10
	// minChunk is the least that bulk is cut to; below it headers would cost
	// more than a keystroke gains.
	minChunk = 1 << 10
	// firstChunk is the size before the line's rate is known.
	firstChunk = 4 << 10
	// chunkTime is how long one chunk of bulk may keep the line, and others
	// waiting.
	chunkTime = 5 * time.Millisecond
	// rateTime is how long the writer must have been busy to judge the rate, or
	// rateBytes how much it must have written: a fast line is known soon.
	rateTime  = 100 * time.Millisecond
	rateBytes = 256 << 10
	// The kernel may hold so many chunks behind what is on its way, within these
	// bounds in bytes: a beat and a keystroke wait behind them.
	unsentChunks = 4
	minUnsent    = 4 << 10
	maxUnsent    = 64 << 10
)

// chunker finds the size in which bulk leaves: chunkTime of the line's rate, so
// that a keystroke never waits long behind it, and so that the peer gets whole
// TLS records often enough to acknowledge them on a slow line.
type chunker struct {
	size  int // by what is written
	most  int // by what is on its way, where that is governed
	bytes int
	busy  time.Duration
}

// wrote learns from a write of n bytes that took so long, and reports whether it
// has made up its mind again.
func (k *chunker) wrote(n int, took time.Duration) bool {
	k.bytes += n
	k.busy += took
	if k.busy < rateTime && k.bytes < rateBytes {
		return false
	}
	perChunk := float64(k.bytes) * float64(chunkTime) / float64(max(k.busy, 1))
	k.size = int(min(max(perChunk, minChunk), maxChunk))
	k.bytes, k.busy = 0, 0
	return true
}

// chunk is the size now.
func (k *chunker) chunk() int { return min(k.size, k.most) }

// unsent is how much the kernel may hold.
func (k *chunker) unsent() int { return min(max(unsentChunks*k.chunk(), minUnsent), maxUnsent) }

// limitUnsent tells the kernel how much it may hold, if that has changed.
func (l *Link) limitUnsent() {
	if n := l.chunk.unsent(); n != l.unsent {
		l.unsent = n
		limitUnsent(l.meter.Conn, n)
	}
}

// startWriter starts the link's writer if there is something to write: a goroutine
// that runs only so long, since most links are idle. The caller holds mu.
func (l *Link) startWriter() {
	if l.writing || l.lost != nil {
		return
	}
	if !l.wanted() {
		l.awaitReceipt()
		return
	}
	l.writing = true
	l.tasks.Go(l.writer)
}

// wanted reports whether something waits that may be written now. The caller holds
// mu.
func (l *Link) wanted() bool {
	q := &l.queue
	return len(q.signals) > 0 || !q.control.empty() && l.control != nil || len(q.grants) > 0 || len(q.small) > 0 || len(q.closing) > 0 || len(q.bulk) > 0 && l.bulkRoom() > 0
}

// write is the link's writer. All that is written to the connection it writes.
func (l *Link) write() {
	buf, _ := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		job, ok := l.next((*buf)[:0])
		switch {
		case !ok:
			return
		case job.closing != nil:
			_ = job.closing.stream.Close() // is one of yamux's headers
			continue
		}
		start := l.meter.now()
		if err := l.framer.write(job.frames); err != nil {
			l.meter.Close()  // yamux sees the end, and ends the link
			l.unread.close() // even while nobody reads what has arrived
			return           // and no other writer starts: what is taken now would be lost
		}
		if job.written != nil {
			close(job.written)
		}
		if job.data && l.chunk.wrote(len(job.frames), l.meter.now()-start) {
			l.limitUnsent()
		}
	}
}

// job is what the writer does next: close a carrier, or write frames.
type job struct {
	closing *carrier
	frames  []byte
	data    bool          // some of frames is of carriers
	written chan struct{} // closed when frames are written; nil: nobody waits
}

// chunks has room for as much as is written at once.
var chunks = sync.Pool{New: func() any { b := make([]byte, 0, maxGathered+muxHeader+maxChunk); return &b }}

// next finds something to do and copies what is to be written to b, in whole frames: the
// memory of a Write belongs to its caller, who may be gone before it is sent. It
// reports false when there is nothing, or the link has ended: then the writer has.
func (l *Link) next(b []byte) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.queue
	if l.lost != nil {
		return job{}, false
	}
	if len(q.closing) > 0 { // all that its Writes have returned for is written
		return job{closing: shift(&q.closing)}, true
	}
	b = append(b, q.signals...)
	q.signals = nil
	j := job{}
	if !q.control.empty() && l.control != nil {
		b, j.written = l.controlFrame(b)
	}
	for len(q.grants) > 0 && len(b) < maxGathered {
		c := shift(&q.grants)
		b = appendHeader(b, muxTypeWindow, c.id, c.owed)
		c.granted += c.owed
		c.owed = 0
	}
	before := len(b)
	for len(q.small) > 0 && len(b) < maxGathered {
		b = shift(&q.small).frame(b, interactiveBytes)
	}
	for len(q.bulk) > 0 && len(q.small) == 0 && len(b) == before && l.bulkRoom() > 0 {
		l.chunk.most = l.mostChunk()
		b = shift(&q.bulk).frame(b, l.chunk.chunk())
	}
	if len(b) == 0 {
		l.writing = false
		l.awaitReceipt()
		return job{}, false
	}
	l.watch()
	j.frames, j.data = b, len(b) > before
	return j, true
}

// controlFrame appends all that waits for the control stream. The caller holds mu.
func (l *Link) controlFrame(b []byte) (_ []byte, written chan struct{}) {
	if l.queue.control.beat != 0 {
		l.beatLeaves()
	}
	b = appendHeader(b, muxTypeData, l.control.id, 0)
	start := len(b)
	b, written = l.queue.control.take(b)
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b, written
}
