package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// output collects what a process writes.
type output struct {
	mu      sync.Mutex // guards buf and changed
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced by Write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(p)
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String(), o.changed
}

// process is a program that runs in a namespace.
type process struct {
	t      *testing.T
	name   string
	pid    int
	stdin  io.WriteCloser
	stdout *output
	stderr *output
	ended  chan struct{} // closed when it has ended and its output is complete
	status int           // its exit status, -1 after a signal; valid once ended
}

// start runs a program in a namespace until the test ends at the latest. It sees
// the lab's home directory and no agent.
func (l *lab) start(t *testing.T, r role, name string, args ...string) *process {
	t.Helper()
	return l.startWith(t, r, func(*exec.Cmd) {}, name, args...)
}

// startWith is start with a command that change has changed.
func (l *lab) startWith(t *testing.T, r role, change func(*exec.Cmd), name string, args ...string) *process {
	t.Helper()
	// ip replaces itself by the program, so the process is the program's.
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.ns(r), name}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.path("home"), "SHELL=/bin/sh", "LANG=C.UTF-8", "USER=root", "LOGNAME=root"}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // no terminal to ask a person at, no ^C of the tests' terminal
	cmd.WaitDelay = time.Second                       // a child may outlive it with its stderr
	p := &process{t: t, name: filepath.Base(name), stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	change(cmd)
	var err error
	p.stdin, err = cmd.StdinPipe()
	l.check(err)
	l.check(cmd.Start())
	p.pid = cmd.Process.Pid
	go func() {
		defer close(p.ended)
		cmd.Wait()
		p.status = cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		p.signal(unix.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("%s (%d) wrote to stdout %.300q, to stderr:\n%.3000s", p.name, p.pid, p.stdout, p.stderr)
		}
	})
	return p
}

// signal sends sig unless the process has been waited for.
func (p *process) signal(sig unix.Signal) {
	select {
	case <-p.ended:
	default:
		unix.Kill(p.pid, sig)
	}
}

// dump ends a Go program and returns all that it wrote, what its goroutines did
// among it.
func (p *process) dump() string {
	p.t.Helper()
	p.signal(unix.SIGQUIT)
	p.endsWithin(patience)
	return p.stderr.String()
}

// send writes to the process's stdin.
func (p *process) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, text); err != nil {
		p.t.Fatalf("write to %s: %v", p.name, err)
	}
}

// says reports whether stdout contains text before the time is up or the process ends.
func (p *process) says(text string, within time.Duration) bool {
	return p.writes(p.stdout, text, within)
}

// logs is says for stderr.
func (p *process) logs(text string, within time.Duration) bool {
	return p.writes(p.stderr, text, within)
}

func (p *process) writes(to *output, text string, within time.Duration) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		out, changed := to.read()
		if strings.Contains(out, text) {
			return true
		}
		select {
		case <-changed:
		case <-p.ended:
			return strings.Contains(to.String(), text)
		case <-deadline.C:
			return false
		}
	}
}

// expect fails the test unless stdout contains text within patience.
func (p *process) expect(text string) {
	p.t.Helper()
	p.expectWithin(patience, text)
}

func (p *process) expectWithin(d time.Duration, text string) {
	p.t.Helper()
	if !p.says(text, d) {
		p.t.Fatalf("%s did not say %q; %s", p.name, text, p.state())
	}
}

// expectLog fails the test unless stderr contains text within patience.
func (p *process) expectLog(text string) {
	p.t.Helper()
	if !p.logs(text, patience) {
		p.t.Fatalf("%s did not log %q; %s", p.name, text, p.state())
	}
}

// endsWithin reports whether the process ends before the time is up.
func (p *process) endsWithin(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// wait fails the test unless the process ends within patience with the given status.
func (p *process) wait(status int) {
	p.t.Helper()
	p.waitWithin(patience, status)
}

func (p *process) waitWithin(d time.Duration, status int) {
	p.t.Helper()
	if !p.endsWithin(d) {
		p.t.Fatalf("%s still runs after %s", p.name, d)
	}
	if p.status != status {
		p.t.Fatalf("%s ended with %d, want %d", p.name, p.status, status)
	}
}

func (p *process) state() string {
	select {
	case <-p.ended:
		return fmt.Sprintf("it ended with %d", p.status)
	default:
		return "it runs"
	}
}

// child returns the process that p started whose program is named name.
func (p *process) child(name string) int {
	p.t.Helper()
	pid, ok := p.children()[name]
	if !ok {
		p.t.Fatalf("%s (%d) has no child %s, only %v", p.name, p.pid, name, p.children())
	}
	return pid
}

// children returns the processes that p started, by their programs' names.
func (p *process) children() map[string]int {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	found := make(map[string]int)
	for field := range strings.FieldsSeq(string(data)) {
		if comm, err := os.ReadFile("/proc/" + field + "/comm"); err == nil {
			pid, err := strconv.Atoi(field)
			if err != nil {
				p.t.Fatal(err)
			}
			found[strings.TrimSpace(string(comm))] = pid
		}
	}
	return found
}

// gone reports whether a process of anyone's ends before the time is up.
func gone(t *testing.T, pid int, within time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(within)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// waitListening waits until p listens on a port of its namespace.
func (l *lab) waitListening(p *process, r role, port int) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		cmd := exec.Command("ip", "netns", "exec", l.ns(r), "ss", "-Hltn", fmt.Sprintf("sport = :%d", port))
		if out, err := cmd.Output(); err == nil && len(out) > 0 {
			return
		}
		if p.endsWithin(20 * time.Millisecond) {
			l.t.Fatalf("lab: %s ended with %d before it listened:\n%s", p.name, p.status, p.stderr)
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("lab: %s does not listen on port %d", p.name, port)
		}
	}
}
