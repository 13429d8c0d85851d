package link

import "sync"

// maxUnread is how many bytes of all streams together may have arrived and not
// been read by their carriers, in bytes. Carriers are read at once, so that this
// is never reached, unless a peer sends without being asked: then nothing more is
// read from the link, which ends it for lack of beats.
const maxUnread = 32 << 20

// unread counts the memory that the inboxes hold. The zero unread holds nothing.
type unread struct {
	mu      sync.Mutex // guards all below
	n       int
	waiting *sync.Cond // the framer; nil while it does not
	over    bool

	full func() // is told that there are too many; set once, nil: nobody
}

// arrived counts n bytes in, and waits while there are too many.
func (u *unread) arrived(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tooMany(n) && u.full != nil {
		u.full()
	}
	for u.tooMany(n) {
		if u.waiting == nil {
			u.waiting = sync.NewCond(&u.mu)
		}
		u.waiting.Wait()
	}
	u.n += n
}

// tooMany reports whether n more have to wait. The caller holds mu.
func (u *unread) tooMany(n int) bool { return u.n > 0 && u.n+n > maxUnread && !u.over }

// read counts n bytes out.
func (u *unread) read(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n -= n
	if u.waiting != nil {
		u.waiting.Signal()
	}
}

// close lets nobody wait any more.
func (u *unread) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.waiting != nil {
		u.waiting.Signal()
	}
}
