package test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of times in /proc/PID/stat, on every system there is (USER_HZ).
const tick = 10 * time.Millisecond

// stat is what the kernel tells of a process.
type stat struct {
	pid, parent int
	used        time.Duration // of processors, with that of children that it has waited for
}

// readStat reads /proc/PID/stat (proc(5)).
func readStat(path string) (s stat, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	// A name may hold anything, so the numbers begin behind its last parenthesis.
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if end < 0 || len(fields) < 15 {
		return s, fmt.Errorf("%s: %q", path, text)
	}
	number := func(b []byte) int {
		n, failed := strconv.Atoi(string(b))
		if failed != nil {
			err = fmt.Errorf("%s: %w", path, failed)
		}
		return n
	}
	name := bytes.IndexByte(text, ' ')
	s.pid, s.parent = number(text[:name]), number(fields[1])
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		s.used += time.Duration(number(f)) * tick
	}
	return s, err
}

// used returns the time of processors that p's processes have used until now.
func (p *peer) used() (sum time.Duration) {
	for _, pid := range p.pids() {
		if s, err := readStat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			sum += s.used
		}
	}
	return sum
}

// resident returns the memory of processes in bytes; a page that several share counts once.
func resident(pids []int) (sum float64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if os.IsNotExist(err) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		_, rest, found := bytes.Cut(text, []byte("\nPss:"))
		fields := bytes.Fields(rest)
		if !found || len(fields) == 0 {
			return 0, fmt.Errorf("no Pss in /proc/%d/smaps_rollup", pid)
		}
		kib, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			return 0, err
		}
		sum += float64(kib) * 1024
	}
	return sum, nil
}
