//go:build !unix

package socket

import "errors"

// Reader is not used.
type Reader struct{}

// NewReader returns nil: reading without waiting is not to be had here.
func NewReader(any) *Reader { return nil }

// Read is not called.
func (*Reader) Read() (buf *[]byte, n int, err error) { return nil, 0, errors.ErrUnsupported }
