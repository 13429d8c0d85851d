package session

import (
	"sort"
	"sync"
)

// Chunk sizes in bytes. A keystroke waits for its acknowledgement in a small
// one, bulk in large ones.
const (
	smallChunk = 2 << 10
	largeChunk = 32 << 10
)

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

// chunk is a piece of a queue. Its bytes are buf[:n], the first stands at
// offset at.
type chunk struct {
	at   uint64
	n    int
	buf  []byte
	lent bool // someone reads it without the lock
}

func (c *chunk) free() {
	if c.lent {
		return // the garbage collector waits for the borrower
	}
	if len(c.buf) == smallChunk {
		smallChunks.Put(c)
	} else {
		largeChunks.Put(c)
	}
}

// queue holds the bytes of one direction between two absolute offsets. It takes
// memory as bytes come and gives it back as they go; an empty queue holds none.
// The zero queue is empty at offset 0.
type queue struct {
	start, end uint64
	chunks     []*chunk
	memory     *Memory // is told; nil: nobody
	charged    int     // bytes of memory
}

func (q *queue) len() int { return int(q.end - q.start) }

// append adds p at the end.
func (q *queue) append(p []byte) {
	for len(p) > 0 {
		c := q.tail(len(p))
		n := copy(c.buf[c.n:], p)
		c.n += n
		q.end += uint64(n)
		p = p[n:]
	}
}

// tail returns a last chunk with room, for n bytes to come.
func (q *queue) tail(n int) *chunk {
	if k := len(q.chunks); k > 0 {
		if c := q.chunks[k-1]; c.n < len(c.buf) {
			return c
		}
	}
	pool := &largeChunks
	if n <= smallChunk && len(q.chunks) == 0 {
		pool = &smallChunks
	}
	c, _ := pool.Get().(*chunk)
	c.at, c.n = q.end, 0
	q.chunks = append(q.chunks, c)
	q.charge(len(c.buf))
	return c
}

// charge counts memory.
func (q *queue) charge(n int) {
	q.charged += n
	q.memory.add(n)
}

// discard drops all bytes before offset to, which lies within the queue.
func (q *queue) discard(to uint64) {
	q.start = to
	drop := 0
	for drop < len(q.chunks) && q.chunks[drop].at+uint64(q.chunks[drop].n) <= to {
		q.charge(-len(q.chunks[drop].buf))
		q.chunks[drop].free()
		q.chunks[drop] = nil
		drop++
	}
	q.chunks = q.chunks[drop:]
	if len(q.chunks) == 0 {
		q.chunks = nil
	}
}

// clear drops everything.
func (q *queue) clear() { q.discard(q.end) }

// peek returns the bytes at the offset that lie together in memory: none at the
// end. They stay valid until they are discarded.
func (q *queue) peek(at uint64) []byte {
	if at >= q.end {
		return nil
	}
	i := sort.Search(len(q.chunks), func(i int) bool { return q.chunks[i].at > at }) - 1
	c := q.chunks[i]
	return c.buf[at-c.at : c.n]
}

// lend keeps the first chunk's memory from being used again until unlend.
func (q *queue) lend() *chunk {
	q.chunks[0].lent = true
	return q.chunks[0]
}

func (q *queue) unlend(c *chunk) { c.lent = false }

// copyAt fills p with bytes from the offset on and returns how many there were.
func (q *queue) copyAt(p []byte, at uint64) int {
	n := 0
	for n < len(p) {
		b := q.peek(at + uint64(n))
		if len(b) == 0 {
			break
		}
		n += copy(p[n:], b)
	}
	return n
}
