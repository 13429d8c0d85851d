package link

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// maxChunk is the most that is queued into yamux at once, in bytes: with
	// yamux's header it fills 64 KiB.
	maxChunk = 64<<10 - muxHeader
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
	if l.writing || l.lost != nil || !l.wanted() {
		return
	}
	l.writing = true
	l.tasks.Go(l.writer)
}

// wanted reports whether something waits that may be written now. The caller holds
// mu.
func (l *Link) wanted() bool {
	q := &l.queue
	return !q.control.empty() && l.control != nil || len(q.small) > 0 || len(q.closing) > 0 || len(q.bulk) > 0 && l.bulkRoom() > 0
}

// write is the link's writer: the only caller of yamux's write side but for
// OpenStream's and the reader's window updates, one header each. What goes to the
// control stream goes past yamux.
func (l *Link) write() {
	buf, _ := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		job, ok := l.next(buf)
		if !ok {
			return
		}
		switch {
		case job.closing != nil:
			job.closing.finish()
			continue
		case job.carrier == nil:
			l.writeControl(job, *buf)
			continue
		}
		start := l.meter.now()
		_, err := job.carrier.stream.Write(*buf)
		if l.chunk.wrote(len(*buf), l.meter.now()-start) {
			l.limitUnsent()
		}
		if err != nil && !errors.Is(err, yamux.ErrSessionShutdown) {
			job.carrier.fail(err)
		}
	}
}

// controlJob takes all that waits for the control stream. The caller holds mu.
func (l *Link) controlJob(buf *[]byte) (j job) {
	if l.queue.control.beat != 0 {
		l.beatLeaves()
	}
	*buf, j.written = l.queue.control.take(*buf)
	l.watch()
	return j
}

// writeControl does a controlJob.
func (l *Link) writeControl(j job, buf []byte) {
	if err := l.framer.message(l.control.StreamID(), buf); err != nil {
		l.meter.Close() // yamux sees the end, and the control stream's reader ends the link
	}
	if j.written != nil {
		close(j.written)
	}
}

// fail ends the carrier with an error of its stream alone: the peer reset it.
func (c *carrier) fail(err error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.failure = err
	c.wake.Broadcast()
}

// job is what the writer does next: close a carrier, or write its buffer to a
// carrier or else to the control stream.
type job struct {
	closing *carrier
	carrier *carrier
	written chan struct{} // closed after a control write
}

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, maxChunk); return &b }}

// next finds something to do and copies what is to be written to a pooled buffer:
// the memory of a Write belongs to its caller, who may be gone before it is sent. It
// reports false when there is nothing, or the link has ended: then the writer has.
func (l *Link) next(buf *[]byte) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.queue
	for {
		*buf = (*buf)[:0]
		switch {
		case l.lost != nil:
			return job{}, false
		case !q.control.empty() && l.control != nil:
			return l.controlJob(buf), true
		case len(q.small) > 0:
			if c := shift(&q.small); c.copy(buf, interactiveBytes) {
				l.watch()
				return job{carrier: c}, true
			}
		case len(q.closing) > 0:
			return job{closing: shift(&q.closing)}, true
		case len(q.bulk) > 0 && l.bulkRoom() > 0:
			c := shift(&q.bulk)
			l.chunk.most = l.mostChunk()
			if c.copy(buf, l.chunk.chunk()) {
				if len(c.pending) > 0 {
					c.queued = true
					q.bulk = append(q.bulk, c)
				}
				l.watch()
				return job{carrier: c}, true
			}
		default:
			l.writing = false
			return job{}, false
		}
	}
}

// copy takes up to n bytes of the pending Write into buf and reports whether
// there were any. The caller holds l.mu.
func (c *carrier) copy(buf *[]byte, n int) bool {
	c.queued = false
	if c.closed || c.failure != nil || len(c.pending) == 0 {
		return false
	}
	n = min(n, len(c.pending))
	*buf = append(*buf, c.pending[:n]...)
	if c.pending = c.pending[n:]; len(c.pending) == 0 {
		c.wake.Broadcast()
	}
	return true
}
