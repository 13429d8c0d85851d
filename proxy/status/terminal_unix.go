//go:build unix

package status

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize is how many lines and columns the terminal shows, or zeros.
func terminalSize(f *os.File) (rows, columns int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = raw.Control(func(fd uintptr) {
		if size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			rows, columns = int(size.Row), int(size.Col)
		}
	})
	return rows, columns
}
