//go:build unix

package console

import (
	"os"

	"golang.org/x/sys/unix"
)

// IsTerminal tells whether a person may be asked.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
