package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// daemonTime is how long a client gives the daemon before it opens a link of its
// own: a daemon that hangs costs a second and nothing else.
const daemonTime = 900 * time.Millisecond

// Daemon is a client's end of the unix socket. Its fields do not change once it
// is in use.
type Daemon struct {
	// Path is the socket's.
	Path string
	// Version and Relay are what the daemon must have.
	Version, Relay string
	// Target and Session are what the carrier will be for, for the daemon's
	// status.
	Target, Session string
}

// ErrNoDaemon is matched when there is no daemon that could serve this client.
var ErrNoDaemon = errors.New("no daemon to use")

// Open opens a carrier on the daemon's link (client.Carriers). It takes at most a
// second. An error matches ErrNoDaemon.
func (d *Daemon) Open(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	c, err := d.ask(ctx, request{Request: requestCarrier, PID: os.Getpid(), Target: d.Target, Session: d.Session})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Dial lets the daemon open a session to d.Target and returns the connection that
// carries it, for a program that takes it over. No byte of it has been read.
func (d *Daemon) Dial(ctx context.Context) (*net.UnixConn, error) {
	return d.ask(ctx, request{Request: requestDial, PID: os.Getpid(), Target: d.Target})
}

// RequestError is what the daemon answered to a request.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return e.Message }

// Is makes a RequestError match ErrNoDaemon.
func (e *RequestError) Is(target error) bool { return target == ErrNoDaemon }

func (d *Daemon) ask(ctx context.Context, req request) (*net.UnixConn, error) {
	if d.Path == "" {
		return nil, ErrNoDaemon
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", d.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	c, ok := conn.(*net.UnixConn)
	if !ok || !sameUser(c) {
		conn.Close()
		return nil, fmt.Errorf("%w: %s is another user's", ErrNoDaemon, d.Path)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = d.talk(c, req)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// talk says what is wanted and reads the answer.
func (d *Daemon) talk(c net.Conn, req request) error {
	var hello greeting
	if err := readLine(c, &hello); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if hello.Version != d.Version || hello.Relay != d.Relay {
		return fmt.Errorf("%w: it is version %s for relay %s", ErrNoDaemon, hello.Version, hello.Relay)
	}
	if err := writeLine(c, req); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	var a answer
	if err := readLine(c, &a); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if a.Error != "" {
		return &RequestError{a.Error}
	}
	return nil
}
