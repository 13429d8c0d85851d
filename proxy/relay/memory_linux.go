package relay

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemMemory is what this process can have, in bytes: the computer's memory, or
// less where a cgroup says so (cgroups(7), version 2). 0: not known.
func systemMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	least := int64(info.Totalram) * int64(info.Unit)
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return least
	}
	_, group, ok := strings.Cut(string(own), "0::")
	if !ok {
		return least
	}
	group, _, _ = strings.Cut(group, "\n")
	groups := os.DirFS("/sys/fs/cgroup")
	for dir := strings.TrimPrefix(path.Clean(group), "/"); ; dir = path.Dir(dir) { // every one above it counts, too
		text, err := fs.ReadFile(groups, path.Join(dir, "memory.max"))
		if err == nil {
			if most, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				least = min(least, most)
			}
		}
		if dir == "." || dir == "" {
			return least
		}
	}
}
