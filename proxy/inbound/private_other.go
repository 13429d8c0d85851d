//go:build !windows

package inbound

import "os"

// createPrivate makes a file that only this user may open, which must not be there.
func createPrivate(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
