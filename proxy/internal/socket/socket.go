// Package socket asks sockets for what net does not tell: data with no buffer held while
// there is none, and whether an end of stream is one.
package socket

import (
	"sync"
	"syscall"
)

// Size is how much is read at once, in bytes.
const Size = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, Size); return &b }}

// Take returns a buffer of Size bytes, for Free.
func Take() *[]byte {
	b, _ := buffers.Get().(*[]byte)
	return b
}

// Free takes a buffer back. Nil is none.
func Free(b *[]byte) {
	if b != nil {
		buffers.Put(b)
	}
}

// raw is c's socket; nil if it has none.
func raw(c any) syscall.RawConn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	r, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return r
}
