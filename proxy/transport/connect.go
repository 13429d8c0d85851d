package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// lookupPatience is how long the relay's name may take to become a connection
// before its last address is tried beside it.
const lookupPatience = time.Second

// connect makes the TCP connection: by name, to all of its addresses, and where
// the name fails or takes long, to the last address too.
func (d *Dialer) connect(ctx context.Context) (net.Conn, error) {
	timeout := d.ConnectTimeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := d.race(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &lateError{"no answer within", timeout, context.DeadlineExceeded}
	}
	return conn, plain(err)
}

// lateError says how long was waited, which says it all: what is beneath is for
// programs.
type lateError struct {
	what   string
	waited time.Duration
	err    error
}

func (e *lateError) Error() string { return fmt.Sprintf("%s %v", e.what, e.waited) }

// Unwrap returns the error of the wait.
func (e *lateError) Unwrap() error { return e.err }

// race returns the first connection there is. The error is the name's.
func (d *Dialer) race(ctx context.Context) (net.Conn, error) {
	if d.LastAddr == "" || d.LastAddr == d.Relay || literal(d.Relay) {
		return d.dialTCP(ctx, d.Relay)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	dial := func(address string) <-chan result {
		c := make(chan result, 1)
		go func() {
			conn, err := d.dialTCP(ctx, address)
			c <- result{conn, err}
		}()
		return c
	}
	named := dial(d.Relay)
	var last <-chan result
	defer func() {
		for _, c := range []<-chan result{named, last} {
			if c != nil { // lost the race, or the caller has left
				go func() {
					if r := <-c; r.conn != nil {
						r.conn.Close()
					}
				}()
			}
		}
	}()
	var failure error
	patience := time.NewTimer(lookupPatience)
	defer patience.Stop()
	for {
		select {
		case r := <-named:
			named = nil
			var lookup *net.DNSError
			switch {
			case r.err == nil:
				return r.conn, nil
			case last == nil && errors.As(r.err, &lookup):
				last = dial(d.LastAddr)
			case last == nil:
				return nil, r.err
			}
			failure = r.err
		case r := <-last:
			last = nil
			if r.err == nil {
				return r.conn, nil
			}
			if named == nil {
				return nil, failure
			}
		case <-patience.C:
			if named != nil && last == nil {
				last = dial(d.LastAddr)
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// literal reports whether address, HOST:PORT, needs no resolving.
func literal(address string) bool {
	_, err := netip.ParseAddrPort(address)
	return err == nil
}

func (d *Dialer) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	if d.NetDial != nil {
		return d.NetDial(ctx, "tcp", address)
	}
	// The link has its own heartbeats; the kernel's would hide the interval.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	return dialer.DialContext(ctx, "tcp", address)
}

// plain drops what net repeats: the address that the caller names already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}
