package test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The peers' names, as tables show them.
const (
	peerDirect  = "direct TCP"
	peerSOCKS   = "sshka-proxy"
	peerCommand = "sshka-proxy HOST PORT"
	peerFdpass  = "sshka-proxy --fdpass"
	peerSSH     = "ssh -D"
	peerStunnel = "stunnel"
	peerSocat   = "socat"
	peerHaproxy = "haproxy"
	peerChisel  = "chisel"
	peerFrp     = "frp"
)

// peer is a way to the target.
type peer struct {
	name    string
	connect func(fd, port int) (*wire, error)
	open    func(port int) (*wire, error) // instead of connect
	roots   []*process                    // of it, with all that they start
	forks   bool                          // it has a process for each session

	mu       sync.Mutex // guards commands
	commands []int      // its processes beside clients
}

var (
	near127   = netip.MustParseAddr(loopbackIP)
	socksSSH  = netip.AddrPortFrom(near127, 1081)
	socksHere = netip.AddrPortFrom(near127, socksPort)
)

// connect0 connects to the target itself, or to what listens for it here: so many ports above.
func connect0(above int) func(fd, port int) (*wire, error) {
	return func(fd, port int) (*wire, error) {
		if above == 0 {
			return connect(fd, farAddress(port))
		}
		return connect(fd, netip.AddrPortFrom(near127, uint16(port+above)))
	}
}

func bySOCKS(server netip.AddrPort) func(fd, port int) (*wire, error) {
	return func(fd, port int) (*wire, error) { return connectSOCKS(fd, server, farAddress(port)) }
}

// starter starts a peer on a stage. It returns nothing if the peer is not installed.
type starter func(*stage) []*peer

// start starts peers beside direct.
func (st *stage) start(all ...starter) {
	st.t.Helper()
	st.peers = []*peer{st.direct}
	for _, start := range all {
		st.peers = append(st.peers, start(st)...)
	}
}

// installed tells whether all programs of a peer are there, and reports the peer that is left out.
func (st *stage) installed(peer string, programs ...string) bool {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			st.report.leaveOut(peer, name+" is not installed")
			return false
		}
	}
	return true
}

// The limits of one key are not what is measured.
var unlimited = settings{
	"allow": `["` + relayIP + `/32:*"]`,
	"limits": "{links: 100000, links_per_key: 100000, opens_per_second: 1000000, dials_per_key: 4096, " +
		"sessions_per_link: 100000, sessions_per_key: 100000}",
}

// beside20 are a daemon's settings: the lab's own beats are faster than the default.
var beside20 = settings{"heartbeat": "{interval: 20s}"}

// startSshka starts a relay and a daemon.
func startSshka(st *stage) []*peer {
	st.t.Helper()
	server := st.l.startRelay(st.t, relayPort, unlimited)
	daemon := st.l.startDaemonIn(st.t, st.near, beside20)
	return []*peer{{name: peerSOCKS, connect: bySOCKS(socksHere), roots: []*process{daemon, server}}}
}

// startSshkaAll is startSshka with the ways of a ProxyCommand.
func startSshkaAll(st *stage) []*peer {
	st.t.Helper()
	all := startSshka(st)
	both := all[0].roots
	command := &peer{name: peerCommand, roots: both}
	command.open = func(port int) (*wire, error) { return st.openCommand(command, port) }
	passed := &peer{name: peerFdpass, roots: both}
	passed.open = func(port int) (*wire, error) {
		w, _, err := st.openPassed(port)
		return w, err
	}
	return append(all, command, passed)
}

// proxyCommand is sshka-proxy HOST PORT beside the daemon.
func (st *stage) proxyCommand(port int, flags ...string) *exec.Cmd {
	args := append([]string{"--config", st.l.proxyConfig(beside20)}, flags...)
	return exec.Command(program(st.t, "sshka-proxy"), append(args, relayIP, strconv.Itoa(port))...)
}

// openCommand opens a session whose bytes a process copies, as ssh has it by default.
func (st *stage) openCommand(p *peer, port int) (*wire, error) {
	cmd := st.proxyCommand(port)
	theirs, ours, err := pipes()
	if err != nil {
		return nil, err
	}
	defer theirs[0].Close()
	defer theirs[1].Close()
	cmd.Stdin, cmd.Stdout = theirs[0], theirs[1]
	if err := st.l.startIn(st.near, cmd); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.commands = append(p.commands, cmd.Process.Pid)
	p.mu.Unlock()
	return &wire{in: ours[0], out: ours[1], command: cmd}, nil
}

// pipes returns a program's stdin and stdout, and the other ends: what to read and what to write.
func pipes() (theirs [2]*os.File, ours [2]int, err error) {
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return theirs, ours, fmt.Errorf("make a pipe: %w", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return theirs, ours, fmt.Errorf("make a pipe: %w", err)
	}
	theirs = [2]*os.File{os.NewFile(uintptr(in[0]), "stdin"), os.NewFile(uintptr(out[1]), "stdout")}
	return theirs, [2]int{out[0], in[1]}, nil
}

// openPassed opens a session that the daemon hands over, as ssh does with ProxyUseFdpass,
// and returns the process that has asked for it, which has ended.
func (st *stage) openPassed(port int) (w *wire, cmd *exec.Cmd, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "stdout")
	cmd = st.proxyCommand(port, "--fdpass")
	cmd.Stdout = theirs
	err = st.l.startIn(st.near, cmd)
	theirs.Close()
	if err != nil {
		return nil, nil, err
	}
	fd, err := receiveDescriptor(pair[0])
	// ssh waits for it, too.
	if failed := cmd.Wait(); err == nil {
		err = failed
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sshka-proxy --fdpass: %w", err)
	}
	return &wire{in: fd, out: fd}, cmd, nil
}

// receiveDescriptor receives one (unix(7), SCM_RIGHTS).
func receiveDescriptor(from int) (int, error) {
	room := make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(from, make([]byte, 1), room, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("receive a descriptor: %w", err)
		}
		messages, err := unix.ParseSocketControlMessage(room[:n])
		if err != nil || len(messages) == 0 {
			return -1, fmt.Errorf("no descriptor came: %w", errors.Join(err, os.ErrNotExist))
		}
		all, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return -1, fmt.Errorf("no descriptor came: %w", err)
		}
		return all[0], nil
	}
}

// startSSHForward starts ssh -D to an sshd in the relay's place.
func startSSHForward(st *stage) []*peer {
	st.t.Helper()
	const port = 2200
	config := strings.ReplaceAll(st.l.read(st.t, "sshd_config_relay"), ":22\n", ":"+strconv.Itoa(port)+"\n")
	server := st.l.start(st.t, relay, sshdPath, "-D", "-e", "-f", st.l.write("sshd_config_forward", config))
	st.l.waitListening(server, relay, port)
	p := st.l.start(st.t, st.near, "ssh", "-F", st.l.path("ssh_config"), "-oHostKeyAlias="+relayIP, "-oExitOnForwardFailure=yes",
		"-c", "aes128-gcm@openssh.com", "-N", "-D", socksSSH.String(), "-p", strconv.Itoa(port), relayIP)
	st.l.waitListening(p, st.near, int(socksSSH.Port()))
	return []*peer{{name: peerSSH, connect: bySOCKS(socksSSH), roots: []*process{p, server}}}
}

// pids returns all processes of p.
func (p *peer) pids() []int {
	var all []int
	for _, r := range p.roots {
		all = append(all, r.pid)
	}
	p.mu.Lock()
	all = append(all, p.commands...)
	p.mu.Unlock()
	if !slices.ContainsFunc(p.roots, func(r *process) bool { return startsOthers(r.name) }) {
		return all
	}
	children := make(map[int][]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if s, err := readStat(path); err == nil {
			children[s.parent] = append(children[s.parent], s.pid)
		}
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// startsOthers tells that a program of that name works in processes that it starts.
func startsOthers(name string) bool { return name == "sshd" || name == "socat" || name == "haproxy" }
