package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a client's end of a session, in blocking descriptors: what is measured
// then is no matter of Go's poller. Both are the same for a socket.
type wire struct {
	in, out int
	command *exec.Cmd // what joins pipes to the session; nil for a socket
	once    sync.Once
}

// Read reads.
func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(w.in, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write writes all of b.
func (w *wire) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := unix.Write(w.out, b[written:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// stop ends every Read and Write, now and later. Close has to follow once nobody is in one.
func (w *wire) stop() {
	if w.command != nil {
		w.command.Process.Kill()
		return
	}
	_ = unix.Shutdown(w.in, unix.SHUT_RDWR)
}

// abort lets Close tell the peer that nothing on its way is wanted any more, so that it
// does not disturb what is measured next.
func (w *wire) abort() {
	if w.command == nil {
		_ = unix.SetsockoptLinger(w.in, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

// Close ends the session.
func (w *wire) Close() error {
	w.once.Do(func() {
		_ = unix.Close(w.in)
		if w.out != w.in {
			_ = unix.Close(w.out)
		}
		if w.command != nil {
			w.command.Process.Kill()
			w.command.Wait()
		}
	})
	return nil
}

// sockets makes TCP sockets of a namespace that nothing is done with yet, so that the
// way into the namespace is not what is measured.
func sockets(ns string, count int) (all []int, err error) {
	err = inNamespace(ns, func() error {
		for range count {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("make a socket: %w", err)
			}
			all = append(all, fd)
			limit := unix.NsecToTimeval(patience.Nanoseconds())
			for _, err := range []error{
				unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
			} {
				if err != nil {
					return fmt.Errorf("set up a socket: %w", err)
				}
			}
		}
		return nil
	})
	if err != nil {
		for _, fd := range all {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return all, nil
}

// connect connects a socket.
func connect(fd int, to netip.AddrPort) (*wire, error) {
	w := &wire{in: fd, out: fd}
	for {
		err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("connect to %s: %w", to, err)
		}
		return w, nil
	}
}

// connectSOCKS connects a socket through a SOCKS5 server (RFC 1928).
func connectSOCKS(fd int, server, to netip.AddrPort) (*wire, error) {
	w, err := connect(fd, server)
	if err != nil {
		return nil, err
	}
	err = func() error {
		var answer [10]byte
		if _, err := w.Write([]byte{5, 1, 0}); err != nil {
			return err
		}
		if _, err := io.ReadFull(w, answer[:2]); err != nil {
			return err
		}
		ip := to.Addr().As4()
		request := binary.BigEndian.AppendUint16(append([]byte{5, 1, 0, 1}, ip[:]...), to.Port())
		if _, err := w.Write(request); err != nil {
			return err
		}
		if _, err := io.ReadFull(w, answer[:]); err != nil {
			return err
		}
		if answer[1] != 0 {
			return fmt.Errorf("reply %d", answer[1])
		}
		return nil
	}()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("SOCKS to %s by %s: %w", to, server, err)
	}
	return w, nil
}

// startIn starts a program in a namespace without another one in between, since its start
// is measured. The program sees the lab's home.
func (l *lab) startIn(r role, cmd *exec.Cmd) error {
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + l.path("home"), "LANG=C.UTF-8", "USER=root", "LOGNAME=root"}
	cmd.WaitDelay = time.Second
	return inNamespace(l.ns(r), cmd.Start)
}
