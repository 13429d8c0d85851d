package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Direct dials targets from here: no relay, no resume. The kernel keeps the
// connection warm, as well as it can.
type Direct struct {
	// Keepalive is the kernel's keepalive interval. Zero or negative: off.
	Keepalive time.Duration
	// Timeout bounds a dial. Zero means DefaultDirectTimeout.
	Timeout time.Duration
}

// DefaultDirectTimeout bounds a direct dial.
const DefaultDirectTimeout = 30 * time.Second

// DialContext dials address.
func (d *Direct) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = DefaultDirectTimeout
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: -1}
	if d.Keepalive > 0 {
		dialer.KeepAlive = 0
		dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: d.Keepalive, Interval: d.Keepalive, Count: 3}
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("reach %s directly: %w", address, plain(err))
	}
	return conn, nil
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
