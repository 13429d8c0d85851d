package inbound

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// localConn is a connection of the local channel, which is a unix socket, or where
// there are none a port on loopback (loopback.go).
type localConn interface {
	net.Conn
	CloseWrite() error
}

// loopbackInstead tells that a unix socket that cannot be had is replaced: Windows has
// them since 2018, Wine has not. Where the kernel names the other end's user it is
// never done. Tests set it.
var loopbackInstead = runtime.GOOS == "windows"

// ErrDaemonRuns is returned by ListenSocket when another daemon has the socket.
var ErrDaemonRuns = errors.New("a daemon is running already")

// ListenSocket listens on the unix socket at path, 0600 in a directory of 0700
// that it makes. What a daemon that was killed left there is removed. Where Windows
// has no unix sockets it listens on loopback and path is a file that only this user
// reads.
func ListenSocket(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := checkSocketDir(dir); err != nil {
		return nil, err
	}
	once, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if conn, err := dialLocal(once, path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%w: it serves %s", ErrDaemonRuns, path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket && !leftByLoopback(path) {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	ln, err := listenUnix(ctx, path)
	if err != nil && loopbackInstead {
		return listenLoopback(ctx, path)
	}
	return ln, err
}

// listenUnix may be replaced by a test.
var listenUnix = func(ctx context.Context, path string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS == "windows" { // which has no modes: the profile's files are its user's alone
		return ln, nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("close the socket to others: %w", err)
	}
	return ln, nil
}

// dialLocal connects to the process whose socket is at path. Whose a unix socket is
// the caller finds out (sameUser).
func dialLocal(ctx context.Context, path string) (localConn, error) {
	if loopbackInstead {
		switch at, err := readLoopbackFile(path); {
		case err == nil:
			return at.dial(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil, err // what a system without unix sockets says of it is something else
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(localConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T cannot be half-closed", conn)
	}
	return c, nil
}

// isAny reports whether err is one of the errnos.
func isAny(err error, errnos []error) bool {
	return slices.ContainsFunc(errnos, func(e error) bool { return errors.Is(err, e) })
}
