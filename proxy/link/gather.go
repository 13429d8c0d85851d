package link

import "sync"

// gatherSize is how much of what TLS writes is gathered at most, in bytes: the records
// of the largest frame, with their headers.
const gatherSize = 72 << 10

var gathered = sync.Pool{New: func() any { b := make([]byte, 0, gatherSize); return &b }}

// gather makes one write of several: TLS writes a record at a time, of 16 KiB at most,
// and each would be a system call.
type gather struct {
	mu   sync.Mutex // guards all below, and the order of writes
	held *[]byte    // pooled; nil unless writes are held back
}

// hold holds back what is written until release.
func (g *gather) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held, _ = gathered.Get().(*[]byte)
		*g.held = (*g.held)[:0]
	}
}

// write writes p by emit, or holds it back.
func (g *gather) write(p []byte, emit func([]byte) (int, error)) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return emit(p)
	}
	if len(*g.held)+len(p) > gatherSize {
		b := *g.held
		*g.held = b[:0]
		if _, err := emit(b); err != nil {
			return 0, err
		}
	}
	*g.held = append(*g.held, p...)
	return len(p), nil
}

// release writes what was held back.
func (g *gather) release(emit func([]byte) (int, error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.held
	if b == nil {
		return nil
	}
	g.held = nil
	defer gathered.Put(b)
	if len(*b) == 0 {
		return nil
	}
	_, err := emit(*b)
	return err
}
