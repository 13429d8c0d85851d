package inbound

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// Where there are no unix sockets the local channel is a port on loopback, and in the
// socket's place is a file that only its user reads, one line:
//
//	127.0.0.1:49152 TOKEN          64 hexadecimal digits
//
// Every user of the machine reaches the port, and may take it over when the daemon is
// gone. So each end first proves to the other that it knows the token, which is never
// sent; all else comes after:
//
//	daemon ─▶ client   nonce                                  32 random bytes
//	client ─▶ daemon   nonce, HMAC(token, "client" D C)       32 random bytes and 32
//	daemon ─▶ client   HMAC(token, "daemon" D C)              32
//
// with SHA-256, D and C being the daemon's and the client's nonce.

const (
	tokenSize = 32
	nonceSize = 32
	// loopbackFileSize is the longest file, in bytes.
	loopbackFileSize = 128
	// proofTime bounds the proofs at either end.
	proofTime = 2 * time.Second
)

// errNotProved is another program than the one wanted, at either end.
var errNotProved = errors.New("the other end does not know the token of the local channel")

// loopbackPort is a port and the token that its two ends share.
type loopbackPort struct {
	address netip.AddrPort
	token   [tokenSize]byte
}

// String is the file.
func (p loopbackPort) String() string { return fmt.Sprintf("%s %x\n", p.address, p.token) }

// parseLoopbackPort reads a file.
func parseLoopbackPort(text string) (p loopbackPort, err error) {
	address, token, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	if p.address, err = netip.ParseAddrPort(address); err != nil || !p.address.Addr().IsLoopback() {
		return p, errors.New("no address on loopback")
	}
	raw, err := hex.DecodeString(token)
	if err != nil || len(raw) != tokenSize {
		return p, errors.New("no token")
	}
	copy(p.token[:], raw)
	return p, nil
}

// readLoopbackFile reads the file at path, if it is one.
func readLoopbackFile(path string) (loopbackPort, error) {
	info, err := os.Lstat(path) // to open a socket, or a pipe, is something else
	if err != nil {
		return loopbackPort{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > loopbackFileSize {
		return loopbackPort{}, fmt.Errorf("%s is no file of the local channel", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return loopbackPort{}, err
	}
	p, err := parseLoopbackPort(string(text))
	if err != nil {
		return p, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

// leftByLoopback tells that the file at path is one of ours. An empty one is, too: it
// was being written when its daemon was killed.
func leftByLoopback(path string) bool {
	if !loopbackInstead {
		return false
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return true
	}
	_, err := readLoopbackFile(path)
	return err == nil
}

// loopbackListener is a port whose file is there as long as it listens.
type loopbackListener struct {
	net.Listener
	port   loopbackPort
	path   string
	remove sync.Once
}

// listenLoopback takes a port and writes its file, which must not be there.
func listenLoopback(ctx context.Context, path string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &loopbackListener{Listener: ln, path: path}
	_, _ = rand.Read(l.port.token[:]) // never fails
	if l.port.address, err = netip.ParseAddrPort(ln.Addr().String()); err == nil {
		err = writePrivate(path, l.port.String())
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("write the file of the local channel: %w", err)
	}
	return l, nil
}

// writePrivate makes a file that nobody but its user may read.
func writePrivate(path, text string) error {
	f, err := createPrivate(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// Close removes the file, too, unless it is another daemon's by now.
func (l *loopbackListener) Close() error {
	l.remove.Do(func() {
		if p, err := readLoopbackFile(l.path); err == nil && p == l.port {
			_ = os.Remove(l.path)
		}
	})
	return l.Listener.Close()
}

// proof is what one end sends.
func (p loopbackPort) proof(role string, daemon, client []byte) []byte {
	mac := hmac.New(sha256.New, p.token[:])
	mac.Write([]byte(role))
	mac.Write(daemon)
	mac.Write(client)
	return mac.Sum(nil)
}

// admit makes the client at the other end of c prove that it may come in, and proves
// to it that this is the daemon.
func (p loopbackPort) admit(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(proofTime))
	daemon := make([]byte, nonceSize)
	_, _ = rand.Read(daemon)
	if _, err := c.Write(daemon); err != nil {
		return err
	}
	said := make([]byte, nonceSize+sha256.Size)
	if _, err := io.ReadFull(c, said); err != nil {
		return err
	}
	client, proof := said[:nonceSize], said[nonceSize:]
	if !hmac.Equal(proof, p.proof("client", daemon, client)) {
		return errNotProved
	}
	if _, err := c.Write(p.proof("daemon", daemon, client)); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// dial connects to the daemon that wrote the file, and to no other program.
func (p loopbackPort) dial(ctx context.Context) (localConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address.String())
	if err != nil {
		return nil, err
	}
	c, ok := conn.(localConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T cannot be half-closed", conn)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = p.greet(c)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// greet is the client's part of admit.
func (p loopbackPort) greet(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(proofTime))
	daemon := make([]byte, nonceSize)
	if _, err := io.ReadFull(c, daemon); err != nil {
		return err
	}
	client := make([]byte, nonceSize, nonceSize+sha256.Size)
	_, _ = rand.Read(client)
	if _, err := c.Write(append(client, p.proof("client", daemon, client)...)); err != nil {
		return err
	}
	proof := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, proof); err != nil {
		return err
	}
	if !hmac.Equal(proof, p.proof("daemon", daemon, client)) {
		return errNotProved
	}
	return c.SetDeadline(time.Time{})
}
