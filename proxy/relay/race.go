package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// attemptDelay is how long one address may take before the next is tried beside
// it (RFC 8305 §5).
const attemptDelay = 250 * time.Millisecond

type dialFunc func(ctx context.Context, a netip.AddrPort) (net.Conn, error)

// interleave alternates the address families, beginning with the first's, and
// else keeps the order that the resolver chose (RFC 8305 §4): where one family
// goes nowhere, the second address tried is of the other.
func interleave(addrs []netip.AddrPort) []netip.AddrPort {
	var first, second []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Is4() == addrs[0].Addr().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	out := make([]netip.AddrPort, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}

// race dials addrs in order, each attemptDelay after the one before or as soon
// as one has failed, and returns the first connection. When all fail the error
// joins theirs. It returns when all attempts have ended.
func race(ctx context.Context, addrs []netip.AddrPort, dial dialFunc) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()

	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result) // never closed; an attempt that finds the race over closes its connection
	over := make(chan struct{})  // closed when race returns
	defer close(over)

	start := func(a netip.AddrPort) {
		attempts.Go(func() {
			conn, err := dial(ctx, a)
			select {
			case results <- result{conn, err}:
			case <-over:
				if err == nil {
					_ = conn.Close()
				}
			}
		})
	}

	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for started := 0; ; {
		select {
		case <-next.C:
			if started < len(addrs) {
				start(addrs[started])
				started++
				next.Reset(attemptDelay)
			}
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if len(errs) == len(addrs) {
				return nil, errors.Join(errs...)
			}
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
	}
}
