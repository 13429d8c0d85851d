//go:build unix

package transport

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the file's lock until unlock. It ends with the process too.
func lockFile(f *os.File) (unlock func(), err error) {
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	return func() { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }, err
}
