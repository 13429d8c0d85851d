//go:build !windows

package keyauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// trusted tells why somebody else than root and this user may change what is at
// path.
func trusted(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of " + path + " is not known")
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: chown it to root", path, st.Uid)
	}
	// In a sticky directory nobody replaces another's file.
	if m := info.Mode(); m.Perm()&0o022 != 0 && (!m.IsDir() || m&fs.ModeSticky == 0) {
		return fmt.Errorf("%s may be written by others (mode %04o): chmod go-w %s", path, m.Perm(), path)
	}
	return nil
}

// alone gives cmd a process group of its own, which ends as a whole.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
