package link

import "time"

// What counts as interactive: by behaviour, not by port. A keystroke and its
// echo, a prompt, an acknowledgement.
const (
	interactiveWrite = 4 << 10 // of one write
	interactiveTime  = 100 * time.Millisecond
	// interactiveBytes is the most in that time, on a line whose rate is not known; else
	// interactiveShare of the line, but leastInteractive at least: what is slow on a
	// fast line fills a slow one.
	interactiveBytes = 32 << 10
	interactiveShare = 0.5
	leastInteractive = 512
)

// behaviour tells interactive writers from bulk.
type behaviour struct {
	since time.Duration // start of the current interactiveTime
	bytes int           // written in it
}

// interactive counts n more bytes and reports whether the writer is still below
// most in interactiveTime.
func (b *behaviour) interactive(n, most int, now time.Duration) bool {
	if now-b.since > interactiveTime {
		b.since, b.bytes = now, 0
	}
	b.bytes += n
	return n <= interactiveWrite && b.bytes < most
}

// queue is what waits for the link's writer, in order of precedence: carriers to
// be closed, yamux's headers, control, windows, small writes of interactive carriers, bulk
// in turns. It
// is bounded by construction: control holds the latest of each kind, a carrier
// stands in it at most once with one Write and once to be closed. The link's mu
// guards it.
type queue struct {
	wake    func() // starts the writer, unless it runs or there is nothing to write
	control controlOut
	signals []byte     // yamux's headers
	grants  []*carrier // are owed a window
	small   []*carrier
	closing []*carrier
	bulk    []*carrier
}

// push lets c's pending Write wait for its turn.
func (q *queue) push(c *carrier) {
	if c.interactive(len(c.pending), c.l.mostInteractive(), c.l.meter.now()) {
		q.small = append(q.small, c)
	} else {
		q.bulk = append(q.bulk, c)
	}
	q.wake()
}

// again lets the rest of c's pending Write wait for its turn.
func (q *queue) again(c *carrier) {
	q.bulk = append(q.bulk, c)
	q.wake()
}

// close lets c be closed after what the writer has taken from it.
func (q *queue) close(c *carrier) {
	q.closing = append(q.closing, c)
	q.wake()
}

// shift removes and returns the first of a row.
func shift(row *[]*carrier) *carrier {
	c := (*row)[0]
	(*row)[0] = nil
	if *row = (*row)[1:]; len(*row) == 0 {
		*row = nil
	}
	return c
}
