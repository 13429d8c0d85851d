package inbound

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peersKnown: this system tells whose a connection is. That is no question of an
// error, since errno ENOSYS is errors.ErrUnsupported and must not let anyone in.
const peersKnown = true

// The states (enum tcp_state) of a client's socket whose connection we have
// accepted and not ended. One that is connecting has the same four numbers and
// may be another's, after the first was closed.
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
)

// peerUID returns the user of the socket at the client's end of a connection
// within this machine.
func peerUID(client, server netip.AddrPort) (uint32, error) {
	sock, err := askKernel(client, server)
	if err != nil {
		fromProc, procErr := searchProc(client, server)
		if procErr != nil {
			return 0, errors.Join(err, procErr)
		}
		sock = fromProc
	}
	return sock.owner(client, server)
}

// tcpSocket is what the kernel tells of a TCP socket.
type tcpSocket struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32
	inode         uint64
}

// owner returns the user of s, which must be the client's end. A socket that its
// process has closed has no inode, and older kernels call it root's.
func (s *tcpSocket) owner(client, server netip.AddrPort) (uint32, error) {
	switch {
	case s.local != client || s.remote != server:
		return 0, fmt.Errorf("the kernel knows %s → %s instead", s.local, s.remote)
	case s.state != tcpEstablished && s.state != tcpFinWait1 && s.state != tcpFinWait2:
		return 0, fmt.Errorf("the client's socket is in state %d", s.state)
	case s.inode == 0:
		return 0, errors.New("the client has closed its socket")
	}
	return s.uid, nil
}

// Sizes and offsets of sock_diag(7)'s messages, in bytes.
const (
	diagRequestSize = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
	diagAnswerSize  = unix.SizeofNlMsghdr + 72 // struct inet_diag_msg
	diagTimeout     = 1                        // seconds; the kernel answers at once
)

// askKernel asks sock_diag for one socket by its four numbers.
func askKernel(client, server netip.AddrPort) (*tcpSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: diagTimeout}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	if err := unix.Sendto(fd, diagRequest(client, server), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	buf := make([]byte, 4<<10)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	for errors.Is(err, unix.EINTR) {
		n, from, err = unix.Recvfrom(fd, buf, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
		return nil, errors.New("sock_diag: an answer that is not the kernel's")
	}
	return parseDiag(buf[:n])
}

// diagRequest asks for the socket whose own address is client.
func diagRequest(client, server netip.AddrPort) []byte {
	family := uint8(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 0, diagRequestSize)
	b = binary.NativeEndian.AppendUint32(b, diagRequestSize)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // any state
	b = binary.BigEndian.AppendUint16(b, client.Port())
	b = binary.BigEndian.AppendUint16(b, server.Port())
	b = appendAddr(b, client.Addr())
	b = appendAddr(b, server.Addr())
	b = append(b, 0, 0, 0, 0) // any interface
	for range 8 {
		b = append(b, 0xff) // no cookie
	}
	return b
}

// appendAddr appends an address as 16 bytes, an IPv4 address in the first 4.
func appendAddr(b []byte, a netip.Addr) []byte {
	var field [16]byte
	copy(field[:], a.AsSlice())
	return append(b, field[:]...)
}

// parseDiag reads the kernel's answer.
func parseDiag(b []byte) (*tcpSocket, error) {
	if len(b) < unix.SizeofNlMsghdr+4 {
		return nil, fmt.Errorf("sock_diag: answer of %d bytes", len(b))
	}
	switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
	case unix.SOCK_DIAG_BY_FAMILY:
	case unix.NLMSG_ERROR:
		errno := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))
		return nil, fmt.Errorf("sock_diag: %w", unix.Errno(-errno))
	default:
		return nil, fmt.Errorf("sock_diag: answer of type %d", kind)
	}
	if len(b) < diagAnswerSize {
		return nil, fmt.Errorf("sock_diag: answer of %d bytes", len(b))
	}
	m := b[unix.SizeofNlMsghdr:]
	addr := func(field []byte) netip.Addr {
		if m[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(field))
		}
		return netip.AddrFrom16([16]byte(field)).Unmap()
	}
	return &tcpSocket{
		state:  m[1],
		local:  netip.AddrPortFrom(addr(m[8:24]), binary.BigEndian.Uint16(m[4:])),
		remote: netip.AddrPortFrom(addr(m[24:40]), binary.BigEndian.Uint16(m[6:])),
		uid:    binary.NativeEndian.Uint32(m[64:]),
		inode:  uint64(binary.NativeEndian.Uint32(m[68:])),
	}, nil
}

// searchProc looks for the socket in /proc/net, for kernels without sock_diag. A
// client that connects to an IPv4 address may do so from an IPv6 socket.
func searchProc(client, server netip.AddrPort) (*tcpSocket, error) {
	names := []string{"/proc/net/tcp6"}
	if client.Addr().Is4() {
		names = []string{"/proc/net/tcp", "/proc/net/tcp6"}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, err
		}
		sock, err := searchTable(f, client, server)
		f.Close()
		if sock != nil || err != nil {
			return sock, err
		}
	}
	return nil, errors.New("no such socket in /proc/net")
}

// searchTable returns nil when the table does not have the socket.
func searchTable(table io.Reader, client, server netip.AddrPort) (*tcpSocket, error) {
	lines := bufio.NewScanner(table)
	lines.Scan() // the title
	for lines.Scan() {
		sock, err := parseProc(lines.Text())
		if err != nil {
			return nil, err
		}
		if sock.local == client && sock.remote == server {
			return sock, nil
		}
	}
	return nil, lines.Err()
}

// parseProc reads one line of /proc/net/tcp or tcp6:
//
//	sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
func parseProc(line string) (*tcpSocket, error) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return nil, fmt.Errorf("a line with %d fields in /proc/net", len(f))
	}
	local, err1 := parseProcAddr(f[1])
	remote, err2 := parseProcAddr(f[2])
	state, err3 := strconv.ParseUint(f[3], 16, 8)
	uid, err4 := strconv.ParseUint(f[7], 10, 32)
	inode, err5 := strconv.ParseUint(f[9], 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fmt.Errorf("read /proc/net: %w", err)
	}
	return &tcpSocket{local: local, remote: remote, state: uint8(state), uid: uint32(uid), inode: inode}, nil
}

// parseProcAddr reads an address of which every 4 bytes are printed as one number
// of this machine, and a port.
func parseProcAddr(s string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("an address of %d bytes", len(b))
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}
