//go:build unix

package inbound

import (
	"fmt"
	"os"
)

// checkSocketDir refuses a directory in which others could put a socket of their
// own in the place of ours.
func checkSocketDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fmt.Errorf("others can write to %s (mode %04o): chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}
