package test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newSessions measures how long a session takes to the first byte of a target that speaks
// first, and on one machine how many there are in a second.
func (st *stage) newSessions(round int, p *peer) {
	st.t.Helper()
	const together = 8
	count, digits := st.how.opens, 3
	if st.line != nil {
		count, digits = st.how.wanOpens, 1
	}
	all, err := sockets(st.l.ns(st.near), 2*count)
	if err != nil {
		st.t.Fatal(err)
	}
	var took []time.Duration
	greeted := func(fd int) (time.Duration, error) {
		began := time.Now()
		w, err := p.connect(fd, greetPort)
		if err != nil {
			return 0, err
		}
		defer w.Close()
		got := make([]byte, len(greeting))
		if _, err := io.ReadFull(w, got[:1]); err != nil {
			return 0, err
		}
		first := time.Since(began)
		_, err = io.ReadFull(w, got[1:]) // what is unread would make the end a reset
		return first, err
	}
	for _, fd := range all[:count] {
		d, err := greeted(fd)
		if err != nil {
			st.t.Fatalf("%s: a new session: %v", p.name, err)
		}
		took = append(took, d)
	}
	st.note(round, p, measure{Name: "new session to first byte", Unit: "ms", digits: digits}, ms(percentile(took, 50)))
	if st.line != nil {
		for _, fd := range all[count:] {
			unix.Close(fd)
		}
		return
	}
	var next atomic.Int64
	var running sync.WaitGroup
	began := time.Now()
	for range together {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if _, err := greeted(all[count+i]); err != nil {
					st.t.Errorf("%s: a new session: %v", p.name, err)
				}
			}
		})
	}
	running.Wait()
	st.note(round, p, measure{Name: fmt.Sprintf("new sessions, %d at once", together), Unit: "1/s", digits: 0},
		float64(count)/time.Since(began).Seconds())
}

// The ways to start a ProxyCommand, as tables show them.
const (
	startDirect  = "nc (direct)"
	startOwn     = "sshka-proxy, own link"
	startBeside  = "sshka-proxy, beside a daemon"
	startFdpass  = "sshka-proxy --fdpass"
	startMaster  = "ssh -W, ControlMaster"
	startNetcat5 = "nc -X 5 to the daemon"
)

var startTime = measure{Name: "start to the first byte of sshd", Unit: "ms", digits: 1}

// commands compares how long a ProxyCommand takes from its start to sshd's first byte.
func (c *comparison) commands(s *scenario) {
	st := c.newStage(s)
	st.l.startRelay(st.t, relayPort, unlimited)
	st.l.startDaemonIn(st.t, st.near, beside20)
	st.inspectLine(s)

	alone := st.l.proxyConfig(beside20.with(settings{"socket": `""`}))
	ours := program(st.t, "sshka-proxy")
	run := func(name string, args ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) { return st.firstByte(exec.Command(name, args...)) }
	}
	type way struct {
		name string
		take func() (time.Duration, error)
	}
	ways := []way{
		{startOwn, run(ours, "--config", alone, relayIP, "22")},
		{startBeside, run(ours, "--config", st.l.proxyConfig(beside20), relayIP, "22")},
		{startFdpass, st.firstPassedByte},
	}
	if master := st.startMaster(st.t); master != "" {
		ways = append(ways, way{startMaster, run("ssh", "-F", st.l.path("ssh_config"), "-S", master, "-W", relayIP+":22", relayIP)})
	}
	if st.installed("nc", "nc") {
		ways = append([]way{{startDirect, run("nc", relayIP, "22")}}, ways...)
		ways = append(ways, way{startNetcat5, run("nc", "-X", "5", "-x", socksHere.String(), relayIP, "22")})
	}
	st.report.setBase(st.name, startDirect)
	for round := range st.how.Rounds {
		st.progress("%s: round %d of %d", st.name, round+1, st.how.Rounds)
		took := make([][]time.Duration, len(ways))
		for range st.how.starts {
			for i, w := range ways {
				d, err := w.take()
				if err != nil {
					st.t.Fatalf("%s: %v", w.name, err)
				}
				took[i] = append(took[i], d)
			}
		}
		for i, w := range ways {
			st.report.add(st.name, w.name, startTime, round, ms(percentile(took[i], 50)))
		}
	}
}

// startMaster starts an ssh that others share, and returns its socket.
func (st *stage) startMaster(t *testing.T) string {
	t.Helper()
	path := st.l.path("master")
	p := st.l.start(t, st.near, "ssh", "-F", st.l.path("ssh_config"), "-M", "-S", path, "-N", relayIP)
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return path
		}
		if p.endsWithin(20*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("lab: ssh -M: %s:\n%s", p.state(), p.stderr)
		}
	}
}

// firstByte runs a ProxyCommand and returns when its first byte came.
func (st *stage) firstByte(cmd *exec.Cmd) (time.Duration, error) {
	theirs, ours, err := pipes()
	if err != nil {
		return 0, err
	}
	cmd.Stdin, cmd.Stdout = theirs[0], theirs[1]
	// A file: ssh hands its stderr on to the master, and a pipe would end with the master.
	said, err := os.Create(st.l.path("said"))
	if err != nil {
		return 0, err
	}
	defer said.Close()
	cmd.Stderr = said
	began := time.Now()
	err = st.l.startIn(st.near, cmd)
	theirs[0].Close()
	theirs[1].Close()
	if err != nil {
		return 0, err
	}
	w := &wire{in: ours[0], out: ours[1], command: cmd}
	defer w.Close()
	stuck := time.AfterFunc(patience, w.stop)
	defer stuck.Stop()
	var first [1]byte
	if _, err := w.Read(first[:]); err != nil || first[0] != 'S' {
		return 0, fmt.Errorf("%s: %q came, %w: %s", strings.Join(cmd.Args, " "), first, err, st.l.read(st.t, "said"))
	}
	return time.Since(began), nil
}

// firstPassedByte is firstByte for a connection that the daemon hands over.
func (st *stage) firstPassedByte() (time.Duration, error) {
	began := time.Now()
	w, _, err := st.openPassed(22)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	var first [1]byte
	if _, err := w.Read(first[:]); err != nil || first[0] != 'S' {
		return 0, fmt.Errorf("--fdpass to port %s: %q came: %w", strconv.Itoa(22), first, err)
	}
	return time.Since(began), nil
}
