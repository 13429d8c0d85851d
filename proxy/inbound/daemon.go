package inbound

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
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
func (d *Daemon) Open(ctx context.Context) (*Carrier, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	return d.carrier(ctx, false)
}

// Reopen opens a carrier for a session that has lost its own, and waits as long
// as a daemon is there and waits for its link (client.Carriers). An error matches
// ErrNoDaemon, or is why ctx is done.
func (d *Daemon) Reopen(ctx context.Context) (*Carrier, error) {
	for {
		once, cancel := context.WithTimeout(ctx, waitTime+socketTime)
		c, err := d.carrier(once, true)
		cancel()
		switch {
		case ctx.Err() != nil && err != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, errNoLinkYet):
			return c, err
		}
	}
}

// errNoLinkYet is why the daemon had no carrier for a session that can wait.
var errNoLinkYet = errors.New("the daemon has no link yet")

func (d *Daemon) carrier(ctx context.Context, wait bool) (*Carrier, error) {
	c, a, err := d.ask(ctx, request{
		Request: requestCarrier, PID: os.Getpid(), Target: d.Target, Session: d.Session, Wait: wait,
	})
	switch {
	case err != nil:
		return nil, err
	case a.Again:
		c.Close()
		return nil, errNoLinkYet
	}
	carrier := &Carrier{ReadWriteCloser: c, Window: time.Duration(a.Window) * time.Millisecond}
	if n, err := hex.Decode(carrier.Instance[:], []byte(a.Instance)); err != nil || n != len(carrier.Instance) {
		c.Close()
		return nil, fmt.Errorf("%w: it names no relay instance", ErrNoDaemon)
	}
	return carrier, nil
}

// Dial lets the daemon open a session to d.Target and returns the connection that
// carries it, for a program that takes it over. No byte of it has been read.
func (d *Daemon) Dial(ctx context.Context) (*net.UnixConn, error) {
	c, _, err := d.ask(ctx, request{Request: requestDial, PID: os.Getpid(), Target: d.Target})
	if err != nil {
		return nil, err
	}
	unix, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("only a unix socket's connection can be passed on")
	}
	return unix, nil
}

// RequestError is what a running process answered to a request.
type RequestError struct {
	Message string
	Code    wire.Code // the relay's, or 0: nobody asked it, or it refused nothing
}

func (e *RequestError) Error() string { return e.Message }

// RefusalCode is why the relay refused (Refusal).
func (e *RequestError) RefusalCode() wire.Code { return e.Code }

// Is makes a RequestError match ErrNoDaemon.
func (e *RequestError) Is(target error) bool { return target == ErrNoDaemon }

func (d *Daemon) ask(ctx context.Context, req request) (localConn, answer, error) {
	var a answer
	if d.Path == "" {
		return nil, a, ErrNoDaemon
	}
	c, err := dialLocal(ctx, d.Path)
	if err != nil {
		return nil, a, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if unix, ok := c.(*net.UnixConn); ok && !sameUser(unix) {
		c.Close()
		return nil, a, fmt.Errorf("%w: %s is another user's", ErrNoDaemon, d.Path)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	a, err = d.talk(c, req)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, a, err
	}
	return c, a, nil
}

// talk says what is wanted and reads the answer.
func (d *Daemon) talk(c net.Conn, req request) (a answer, err error) {
	var hello greeting
	_ = c.SetDeadline(time.Now().Add(daemonTime)) // one that is stopped says nothing
	if err := readLine(c, &hello); err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	_ = c.SetDeadline(time.Time{})
	if hello.Version != d.Version || hello.Relay != d.Relay {
		return a, fmt.Errorf("%w: it is version %s for relay %s", ErrNoDaemon, hello.Version, hello.Relay)
	}
	if err := writeLine(c, req); err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if err := readLine(c, &a); err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if a.Error != "" {
		return a, &RequestError{a.Error, a.Code}
	}
	return a, nil
}
