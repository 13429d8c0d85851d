//go:build !unix

package splice

import "syscall"

// readerOf returns otherwise: reading without waiting is not to be had here.
func readerOf(_ syscall.RawConn, otherwise func() (*[]byte, int, error)) func() (*[]byte, int, error) {
	return otherwise
}
