//go:build !unix

package link

import (
	"errors"
	"syscall"
)

const readsRaw = false

// rawReader is not used.
type rawReader struct{}

func newRawReader(syscall.RawConn) *rawReader { return nil }

func (*rawReader) read() (*[]byte, int, error) { return nil, 0, errors.ErrUnsupported }
