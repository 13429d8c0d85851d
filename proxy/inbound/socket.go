package inbound

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// The daemon's unix socket, or what stands for it (loopback.go): a line of JSON each
// way, then bytes.
//
//	daemon ─▶ client   {"version":"1.0.0","relay":"relay.example.com:7422"}
//	client ─▶ daemon   {"request":"carrier","pid":4711,"target":"db:22","session":"0f3c…"}
//	               or  {"request":"carrier",…,"wait":true} for a session that has lost its carrier
//	               or  {"request":"dial","pid":4711,"target":"db:22"}
//	               or  {"request":"status","pid":4711}
//	daemon ─▶ client   {} or {"error":"…"}; to a carrier {"instance":"9ab0…","window":86400000}
//	               or  {"again":true}: there is no link yet, ask again
//	both                bytes: of a carrier, or of the target; after "status" a Snapshot's JSON
//
// Both ends are of one version, or do not talk: so the form may change.

const (
	// socketLine is the longest line, in bytes.
	socketLine = 2 << 10
	// socketTime bounds what stands before the bytes, for the daemon.
	socketTime = 15 * time.Second
	// linkTime is how long the daemon looks for a link before it lets a client
	// open its own.
	linkTime = 500 * time.Millisecond
	// waitTime is how long it looks for one on behalf of a session that can wait,
	// before it lets the client ask again: so a client soon knows that the daemon is
	// there.
	waitTime = 10 * time.Second
	// maxSocketConns is how many clients the daemon serves at once.
	maxSocketConns = 4096
)

// The requests.
const (
	requestCarrier = "carrier"
	requestDial    = "dial"
	requestStatus  = "status"
	requestEnd     = "end" // a relay's only
)

// greeting is what the daemon says first.
type greeting struct {
	Version string `json:"version"`
	Relay   string `json:"relay"`
}

// request is what a client wants.
type request struct {
	Request string `json:"request"`
	PID     int    `json:"pid"`
	Target  string `json:"target,omitempty"`
	Session string `json:"session,omitempty"`
	Wait    bool   `json:"wait,omitempty"` // for a link, should there be none
	Key     string `json:"key,omitempty"`  // whose sessions are to end
}

// answer is what becomes of it.
type answer struct {
	Error    string    `json:"error,omitempty"`
	Code     wire.Code `json:"code,omitempty"`     // why the relay refused
	Again    bool      `json:"again,omitempty"`    // no link yet: ask again
	Instance string    `json:"instance,omitempty"` // the relay's, in hexadecimal
	Window   int64     `json:"window,omitempty"`   // the relay's, in milliseconds
	Ended    int       `json:"ended,omitempty"`    // sessions
}

// Carrier is a carrier and the relay process that it leads to.
type Carrier struct {
	io.ReadWriteCloser
	// Instance is the relay process.
	Instance wire.ID
	// Window is how long that relay keeps a session whose link is lost. Zero: it
	// ends with its link.
	Window time.Duration
}

// Dial opens a connection to address, HOST:PORT. Names go to the relay as they
// are.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Socket is the daemon's end of the unix socket. Its fields do not change once
// it serves.
type Socket struct {
	// Version is this program's. A client of another one goes its own way.
	Version string
	// Relay is the relay's address. A client that wants another goes its own way.
	Relay string
	// Open opens a carrier on the daemon's link. Reopen does for a session that has
	// lost its own, and waits for a link.
	Open, Reopen func(ctx context.Context) (*Carrier, error)
	// Dial opens a session of the daemon's own.
	Dial Dial
	// Status tells what the daemon is doing. Nil: it does not.
	Status func() *status.Snapshot
	// Log is for a person; nil discards.
	Log *slog.Logger
	// Guests is told of the sessions of other processes; nil is told nothing.
	Guests *GuestTrace

	guests guests
	waits  time.Duration // instead of waitTime; for tests
}

// Serve answers clients until ctx is done, and returns when all of them have
// left. It closes ln.
func (s *Socket) Serve(ctx context.Context, ln net.Listener) error {
	s.guests.trace = s.Guests
	return serveSocket(ctx, ln, s.Log, s.serve)
}

// serveSocket lets serve answer everybody who comes to ln and may, until ctx is
// done, and returns when all of them have left. It closes ln.
func serveSocket(ctx context.Context, ln net.Listener, log *slog.Logger, serve func(context.Context, localConn) error) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, maxSocketConns)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			log.Warn("accept on the socket failed, trying on", "error", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		c, ok := conn.(localConn)
		if unix, is := conn.(*net.UnixConn); !ok || is && !sameUser(unix) {
			log.Warn("refused another user on the socket")
			conn.Close()
			continue
		}
		select {
		case room <- struct{}{}:
			wg.Go(func() {
				defer func() { <-room }()
				if err := admit(ctx, ln, c); err != nil {
					log.Warn("refused on the local channel", "error", err)
					c.Close()
					return
				}
				if err := serve(ctx, c); err != nil {
					log.Debug("client on the socket", "error", err)
				}
			})
		default:
			log.Warn("too many clients on the socket", "limit", maxSocketConns)
			conn.Close()
		}
	}
}

// admit lets a client in for whom its coming does not speak.
func admit(ctx context.Context, ln net.Listener, c localConn) error {
	l, ok := ln.(*loopbackListener)
	if !ok {
		return nil
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	return l.port.admit(c)
}

// serve answers one client.
func (s *Socket) serve(ctx context.Context, c localConn) error {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(socketTime))
	if err := writeLine(c, greeting{s.Version, s.Relay}); err != nil {
		return err
	}
	var req request
	if err := readLine(c, &req); err != nil {
		return err
	}
	var conn splice.Conn
	var a answer
	var err error
	switch req.Request {
	case requestCarrier:
		guest, leave := s.guests.enter(&req)
		defer leave()
		conn, err = s.carrier(ctx, req.Wait, &a)
		if conn != nil {
			conn = guest.carried(conn)
		}
	case requestDial:
		conn, err = s.dial(ctx, req.Target)
	case requestStatus:
		return answerStatus(c, s.Status)
	default:
		err = fmt.Errorf("no request called %q", req.Request)
	}
	if err != nil {
		return errors.Join(err, writeLine(c, answer{Error: err.Error(), Code: refusalCode(err)}))
	}
	if err := writeLine(c, a); err != nil || conn == nil {
		if conn != nil {
			conn.Close()
		}
		return err
	}
	_ = c.SetDeadline(time.Time{})
	stop() // from here splice ends it
	return splice.Join(ctx, c, conn).Err
}

// carrier opens a carrier. It returns none when there is no link yet and the
// client wants to wait.
func (s *Socket) carrier(ctx context.Context, wait bool, a *answer) (splice.Conn, error) {
	open, patience := s.Open, linkTime
	if wait {
		open, patience = s.Reopen, cmp.Or(s.waits, waitTime)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := open(ctx)
	if err != nil {
		if wait && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			a.Again = true
			return nil, nil
		}
		return nil, err
	}
	a.Instance, a.Window = c.Instance.String(), c.Window.Milliseconds()
	return carrierConn{c}, nil
}

// carrierConn is a carrier as splice wants it: it has no half-close, since the
// end of a carrier is no end of a stream.
type carrierConn struct{ io.ReadWriteCloser }

// CloseWrite ends the carrier.
func (c carrierConn) CloseWrite() error { return c.Close() }

func (s *Socket) dial(ctx context.Context, target string) (splice.Conn, error) {
	conn, err := s.Dial(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(splice.Conn); ok {
		return c, nil
	}
	conn.Close()
	return nil, fmt.Errorf("%T cannot be half-closed", conn)
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// readLine reads one line of JSON into v, and no byte beyond it: what follows
// belongs to whoever gets the connection.
func readLine(r io.Reader, v any) error {
	line := make([]byte, 0, 128)
	var b [1]byte
	for len(line) < socketLine {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("read line: %w", err)
		}
		if b[0] != '\n' {
			line = append(line, b[0])
			continue
		}
		d := json.NewDecoder(bytes.NewReader(line))
		if err := d.Decode(v); err != nil {
			return fmt.Errorf("read line: %w", err)
		}
		return nil
	}
	return fmt.Errorf("line of more than %d bytes", socketLine)
}
