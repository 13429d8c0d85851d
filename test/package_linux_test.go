package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// packageVersion is no version that is ever released.
const packageVersion = "0.0.1-dev"

// packages builds the packages of this machine's architecture once, and returns the
// repository's dist folder. Their names hold packageVersion, so that nothing of a
// release is overwritten.
var packages = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	// A copy, because what is built goes into dist beside its sources.
	root := filepath.Join(workDir, "source")
	if out, err := exec.CommandContext(ctx, "cp", "-r", "--preserve=mode", "..", root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the sources: %w\n%s", err, out)
	}
	if err := os.RemoveAll(filepath.Join(root, "dist")); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "make", "packages", "images", "MACHINES="+runtime.GOARCH, "VERSION="+packageVersion, "SOURCE_DATE_EPOCH=1700000000")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make packages: %w\n%s", err, out)
	}
	return filepath.Join(root, "dist"), nil
})

// packaged returns the path of a package, or of another file in dist.
func packaged(t *testing.T, pattern string) string {
	t.Helper()
	dist, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dist, pattern))
	if err != nil || len(found) != 1 {
		names, _ := filepath.Glob(filepath.Join(dist, "*"))
		t.Fatalf("%s is %v (%v) among %v, want one", pattern, found, err, names)
	}
	return found[0]
}

// machine is a copy of this machine's files, in which whatever is changed goes
// into a folder of the test's, with processes of its own and no systemd that runs.
type machine struct {
	t     *testing.T
	upper string
}

// enter mounts a copy of / and runs the program there, as root, in a namespace that ends with it.
// Under /tmp and /run there is nothing, and the packages are in /packages.
const enter = `set -e
mount --make-rprivate /
mount -t overlay machine -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mkdir -p "$1/root/packages"
mount --bind "$2" "$1/root/packages"
mount -t tmpfs machine "$1/root/tmp"
mount -t tmpfs machine "$1/root/run"
mount -t proc machine "$1/root/proc"
mount --bind /dev "$1/root/dev"
root=$1/root
shift 2
exec chroot "$root" "$@"`

// newMachine skips the test where there can be none. What the overlay is written to
// must not be on an overlay itself, so it is in memory.
func newMachine(t *testing.T) *machine {
	t.Helper()
	needTools(t, "dpkg", "dpkg-deb", "unshare", "chroot", "make")
	m := &machine{t: t, upper: t.TempDir()}
	if out, err := exec.Command("mount", "-t", "tmpfs", "tmpfs", m.upper).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", m.upper).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(m.upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A machine that has it installed is no place to look what is left.
	if _, err := os.Stat("/etc/sshka"); !errors.Is(err, os.ErrNotExist) {
		t.Skip("/etc/sshka is there already")
	}
	return m
}

// try runs a shell script on the machine and returns what it wrote.
func (m *machine) try(script string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	dir := filepath.Dir(packaged(m.t, "sshka-relay_*.deb"))
	// --kill-child: nothing that the script has started outlives it.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child",
		"/bin/sh", "-c", enter, "sh", m.upper, dir, "/bin/sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "HOME=/root"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// run is try that has to succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// expect runs a script, whose output has to hold each text.
func (m *machine) expect(script string, texts ...string) {
	m.t.Helper()
	out := m.run(script)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			m.t.Errorf("%s says\n%s\nwant %q", script, out, text)
		}
	}
}

// left lists the files of the machine that this one does not have, or has otherwise,
// but for those that every installation leaves.
func (m *machine) left() []string {
	m.t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join(m.upper, "upper"), func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, filepath.Join(m.upper, "upper"))
		if err == nil && !d.IsDir() && (strings.Contains(name, "sshka") || strings.HasPrefix(name, "/etc/")) {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}
