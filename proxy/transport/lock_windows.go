package transport

import (
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the file's lock until unlock. It ends with the process too.
func lockFile(f *os.File) (unlock func(), err error) {
	// The lock is beyond the end: the file can be read meanwhile.
	at := &windows.Overlapped{Offset: math.MaxUint32, OffsetHigh: math.MaxInt32}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, at)
	return func() { _ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, at) }, err
}
