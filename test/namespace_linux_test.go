package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	netnsDir    = "/run/netns"
	netnsEtcDir = "/etc/netns"
	toolTimeout = 10 * time.Second // of ip, nft and their like
)

func addNamespace(ns string) error { return runTool("", "ip", "netns", "add", ns) }

// removeNamespaces kills what runs in the namespaces whose names begin with
// prefix, and removes them.
func removeNamespaces(prefix string) {
	found, _ := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	for _, path := range found {
		for _, pid := range pidsIn(filepath.Base(path)) {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, path := range found {
		ns := filepath.Base(path)
		runTool("", "ip", "netns", "del", ns)
		os.RemoveAll(filepath.Join(netnsEtcDir, ns))
	}
}

func pidsIn(ns string) []int {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "ip", "netns", "pids", ns).Output()
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inNamespace runs f on a thread that is in ns: sockets and files of /proc that f
// opens are those of ns.
func inNamespace(ns string, f func() error) error {
	failed := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so it ends with the goroutine and nothing
		// else runs in ns by accident.
		runtime.LockOSThread()
		failed <- func() error {
			file, err := os.Open(filepath.Join(netnsDir, ns))
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter %s: %w", ns, err)
			}
			return f()
		}()
	}()
	return <-failed
}

// sysctl sets a key of the namespace's own.
func sysctl(ns, key, value string) error {
	return inNamespace(ns, func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0)
	})
}

// runIn runs a tool in ns to its end.
func runIn(ns, stdin, name string, args ...string) error {
	return runTool(stdin, "ip", append([]string{"netns", "exec", ns, name}, args...)...)
}

// runTool runs a tool to its end. Its output is told only if it fails.
func runTool(stdin, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
