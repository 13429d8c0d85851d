package link

import "sync"

const (
	// smallParcel is the most that is kept in memory of just that size, in bytes.
	smallParcel = 4 << 10
	// parcelCost is what the memory of a parcel takes beside its bytes, about.
	parcelCost = 64
	// fewParcels is how many an empty inbox keeps room for.
	fewParcels = 8
)

// parcel is the body of a data frame.
type parcel struct {
	b    []byte
	cost int     // of the memory it takes, in bytes
	pool *[]byte // it is part of; nil: of none
	lent bool    // someone reads it without the lock
}

var parcels = sync.Pool{New: func() any { b := make([]byte, maxChunk); return &b }}

// newParcel has room for n bytes, at most maxChunk.
func newParcel(n int) parcel {
	if n <= smallParcel {
		return parcel{b: make([]byte, n), cost: n + parcelCost}
	}
	b, _ := parcels.Get().(*[]byte)
	return parcel{b: (*b)[:n], cost: maxChunk, pool: b}
}

// free gives the memory back, or leaves it to the garbage collector, which waits for
// the borrower.
func (p *parcel) free() {
	if p.pool != nil && !p.lent {
		parcels.Put(p.pool)
	}
	*p = parcel{}
}

// inbox is what has arrived for a carrier and was not read yet. Its zero value is
// empty.
type inbox struct {
	unread *unread // counts what it holds; set before its first use

	mu    sync.Mutex // guards all below
	wake  *sync.Cond // made by the first who waits
	queue []parcel
	first int    // of queue
	held  parcel // was the first, and its last bytes are lent
	err   error  // why no more arrives
}

// put adds p, or frees it if nobody will read it.
func (i *inbox) put(p parcel) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		i.unread.read(p.cost)
		p.free()
		return
	}
	if len(i.queue) == cap(i.queue) && 2*i.first >= len(i.queue) {
		// A reader that is never quite done leaves room in front, and none behind.
		n := copy(i.queue, i.queue[i.first:])
		clear(i.queue[n:])
		i.first, i.queue = 0, i.queue[:n]
	}
	i.queue = append(i.queue, p)
	i.wakeReader()
}

// read waits for something to read.
func (i *inbox) read(b []byte) (int, error) {
	p, err := i.borrow(len(b))
	return copy(b, p), err
}

// borrow is read without a copy, of at most n bytes: they are the caller's until it reads
// or borrows again.
func (i *inbox) borrow(n int) ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.giveBack()
	for i.first == len(i.queue) {
		if i.err != nil {
			return nil, i.err
		}
		if i.wake == nil {
			i.wake = sync.NewCond(&i.mu)
		}
		i.wake.Wait()
	}
	p := &i.queue[i.first]
	b := p.b[:min(n, len(p.b))]
	p.lent = true
	if p.b = p.b[len(b):]; len(p.b) == 0 {
		i.held = i.shift()
	}
	return b, nil
}

// giveBack is told that nothing is lent any more. The caller holds mu.
func (i *inbox) giveBack() {
	if i.first < len(i.queue) {
		i.queue[i.first].lent = false
	}
	i.held.lent = false
	i.held.free()
}

// shift removes and returns the first parcel. The caller holds mu.
func (i *inbox) shift() parcel {
	p := i.queue[i.first]
	i.queue[i.first] = parcel{}
	i.unread.read(p.cost)
	if i.first++; i.first == len(i.queue) {
		if i.first, i.queue = 0, i.queue[:0]; cap(i.queue) > fewParcels {
			i.queue = nil
		}
	}
	return p
}

// end lets nothing arrive any more. What has arrived can still be read; after it,
// reading fails with err. Only the first end counts.
func (i *inbox) end(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
		i.wakeReader()
	}
}

// discard ends with err whoever reads, and forgets what has arrived.
func (i *inbox) discard(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for i.first < len(i.queue) {
		p := i.shift()
		p.free()
	}
	i.err = err
	i.wakeReader()
}

// wakeReader lets whoever waits look again. The caller holds mu.
func (i *inbox) wakeReader() {
	if i.wake != nil {
		i.wake.Broadcast()
	}
}
