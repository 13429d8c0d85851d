package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// What a client of the admin address may take.
const (
	// maxConns is how many connections there are at a time; further ones wait.
	maxConns = 64
	// maxHeader is the size of a request's header, in bytes.
	maxHeader = 16 << 10

	headerTime = 5 * time.Second
	readTime   = 10 * time.Second
	writeTime  = 30 * time.Second
	// idleTime is above the intervals of scrapers, who keep their connection.
	idleTime = 2 * time.Minute
	// partingTime is how long an answer under way may take at the end.
	partingTime = time.Second
)

// Listen opens the admin address. Empty: there is none, and the listener is nil.
// An address that nobody asked for, the default, is not worth an end: when it
// cannot be had, such as by a second process, log is warned and the listener is
// nil too. configured tells an address that was asked for.
func Listen(ctx context.Context, address string, configured bool, log *slog.Logger) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		return ln, nil
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err // without the address, which we name
	}
	if configured {
		return nil, fmt.Errorf("listen for metrics on %s: %w", address, err)
	}
	orDiscard(log).Warn("no metrics: the default admin address cannot be had", "address", address, "error", err)
	return nil, nil
}

// Serve answers on ln, which it owns, until ctx is done or ln fails, and returns
// when every connection has ended: nil after ctx. log, which may be nil, hears of
// broken connections at Debug.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	var open sync.WaitGroup
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(orDiscard(log).Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Done()
			default:
			}
		},
	}
	if h, ok := h.(*handler); ok && h.cfg.Page != nil {
		server.RegisterOnShutdown(h.cfg.Page.end) // streams would never end by themselves
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTime)
		defer cancel()
		_ = server.Shutdown(late) // what is left is cut below
	})
	err := server.Serve(newBounded(ln, maxConns))
	if stop() { // ln failed
		close(stopped)
	}
	<-stopped
	server.Close()
	open.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %s: %w", ln.Addr(), err)
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// bounded is a listener whose connections are counted: Accept waits while there
// are too many.
type bounded struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{} // closed by Close
	once   sync.Once
}

func newBounded(ln net.Listener, n int) *bounded {
	return &bounded{Listener: ln, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a slot, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-b.slots })}, nil
}

// Close also ends an Accept that waits for a slot.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// boundedConn gives its slot back when it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
