package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A file system through the proxy. What is mounted is seen by the mounting process
// and its children only, since each has its own mounts.
func TestSSHFSThroughTheProxy(t *testing.T) {
	t.Parallel()
	needLab(t)
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	fuse.Close()
	needTools(t, "sshfs", "fusermount3")
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := l.randomFile(t, "sent", 3_000_001)
	for _, dir := range []string{"there", "mounted"} {
		l.check(os.Mkdir(l.path(dir), 0o700))
	}
	l.configWith(t, "sshfs_config", "Host *\n\t"+strings.Replace(strings.TrimPrefix(l.through(t, nil), "-o"), "=", " ", 1)+"\n")
	p := l.startWith(t, client, func(cmd *exec.Cmd) { cmd.Dir = l.dir }, "sh", "-euc", `
		sshfs -o ssh_command="ssh -F $PWD/sshfs_config" "$1:$PWD/there" mounted
		cp sent mounted/file
		cat mounted/file >down
		fusermount3 -u mounted
	`, "sh", targetIP)
	p.waitWithin(bulkPatience, 0)
	for _, name := range []string{"there/file", "down"} {
		if got := sum(t, l.path(name)); got != want {
			t.Errorf("%s: the file that arrived differs", name)
		}
	}
}
