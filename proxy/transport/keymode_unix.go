//go:build unix

package transport

import (
	"io/fs"
	"os"
	"syscall"
)

// closedToOthers reports whether nobody reads a private key who should not.
func closedToOthers(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && closed(info.Mode().Perm(), int(st.Uid), os.Geteuid())
}

// closed is closedToOthers for the user me. Only the owner may read, with one
// exception: a file of root's that its group may read is how Kubernetes hands a
// Secret to a program that is not root (fsGroup). The program cannot close it, and
// without that group it could not read it at all.
func closed(mode fs.FileMode, owner, me int) bool {
	return mode&0o077 == 0 || mode&0o037 == 0 && owner == 0 && me != 0
}

// giveTo makes the owner of a directory that of a new file in it, where root makes the
// file: root asks for the fingerprint, and then the service has to read its key.
func giveTo(dir string, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
