package inbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/status"
)

const (
	// operatorTime bounds what an operator waits for.
	operatorTime = 5 * time.Second
	// maxSnapshot is the largest status that is read, in bytes.
	maxSnapshot = 64 << 20
)

// Control is a process's end of a unix socket that serves its operator and nobody
// else: the relay's. It speaks as [Socket] does. Its fields do not change once it
// serves.
type Control struct {
	// Version is this program's.
	Version string
	// Status tells what the process is doing.
	Status func() *status.Snapshot
	// End ends a session by its id, or those of a key where the id is empty, and
	// returns how many.
	End func(session, key string) (int, error)
	// Log is for a person; nil discards.
	Log *slog.Logger
}

// Serve answers operators until ctx is done, and returns when all of them have
// left. It closes ln, which is ListenSocket's.
func (s *Control) Serve(ctx context.Context, ln net.Listener) error {
	return serveSocket(ctx, ln, s.Log, s.serve)
}

func (s *Control) serve(ctx context.Context, c localConn) error {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(socketTime))
	if err := writeLine(c, greeting{Version: s.Version}); err != nil {
		return err
	}
	var req request
	if err := readLine(c, &req); err != nil {
		return err
	}
	switch req.Request {
	case requestStatus:
		return answerStatus(c, s.Status)
	case requestEnd:
		n, err := s.End(req.Session, req.Key)
		if err != nil {
			return writeLine(c, answer{Error: err.Error()})
		}
		return writeLine(c, answer{Ended: n})
	}
	return writeLine(c, answer{Error: fmt.Sprintf("no request called %q", req.Request)})
}

// answerStatus answers an operator.
func answerStatus(c net.Conn, take func() *status.Snapshot) error {
	if take == nil {
		return writeLine(c, answer{Error: "this process does not tell"})
	}
	if err := writeLine(c, answer{}); err != nil {
		return err
	}
	return take().WriteJSON(c)
}

// Operator is an operator's end of the unix socket of a running process. Its
// fields do not change once it is in use.
type Operator struct {
	// Path is the socket's.
	Path string
	// Version is this program's.
	Version string
}

// ErrNotRunning is matched when nobody answers at the socket.
var ErrNotRunning = errors.New("not running")

// VersionError is a running process of another version.
type VersionError struct{ Running, Own string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the running process is version %q, this program is %s: restart it, or ask with its own program", e.Running, e.Own)
}

// Greet returns the version of the running process and the relay that it is for,
// which a relay leaves empty.
func (o *Operator) Greet(ctx context.Context) (version, relay string, err error) {
	err = o.talk(ctx, func(hello greeting, _ net.Conn) error {
		version, relay = hello.Version, hello.Relay
		return nil
	})
	return version, relay, err
}

// Status asks the running process what it is doing. An error matches
// ErrNotRunning, or is a *VersionError, or says what is in the way.
func (o *Operator) Status(ctx context.Context) (*status.Snapshot, error) {
	var s status.Snapshot
	err := o.request(ctx, request{Request: requestStatus}, func(_ answer, c net.Conn) error {
		if err := json.NewDecoder(io.LimitReader(c, maxSnapshot)).Decode(&s); err != nil {
			return fmt.Errorf("read status: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// End ends a session by its id, or those of a key where the id is empty, and
// returns how many. Errors are as for Status, or a *RequestError.
func (o *Operator) End(ctx context.Context, session, key string) (n int, err error) {
	err = o.request(ctx, request{Request: requestEnd, Session: session, Key: key}, func(a answer, _ net.Conn) error {
		n = a.Ended
		return nil
	})
	return n, err
}

// request asks a process of this version and lets take have its answer.
func (o *Operator) request(ctx context.Context, req request, take func(answer, net.Conn) error) error {
	req.PID = os.Getpid()
	return o.talk(ctx, func(hello greeting, c net.Conn) error {
		if hello.Version != o.Version {
			return &VersionError{hello.Version, o.Version}
		}
		if err := writeLine(c, req); err != nil {
			return err
		}
		var a answer
		if err := readLine(c, &a); err != nil {
			return err
		}
		if a.Error != "" {
			return &RequestError{a.Error, a.Code}
		}
		return take(a, c)
	})
}

// talk connects and lets do have what was said first.
func (o *Operator) talk(ctx context.Context, do func(greeting, net.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTime)
	defer cancel()
	conn, err := dialLocal(ctx, o.Path)
	switch {
	case o.Path == "", errors.Is(err, fs.ErrNotExist), isAny(err, refusedErrnos), errors.Is(err, syscall.ENOTDIR):
		return ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is another user's: ask as that user or as root", o.Path)
	case err != nil:
		return err
	}
	defer conn.Close()
	// Root asks whom it likes; nobody else takes another user's word.
	if c, ok := conn.(*net.UnixConn); ok && !sameUser(c) && os.Geteuid() != 0 {
		return fmt.Errorf("%s is another user's: ask as that user or as root", o.Path)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var hello greeting
	if err = readLine(conn, &hello); err == nil {
		err = do(hello, conn)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return fmt.Errorf("the process at %s does not answer within %v", o.Path, operatorTime)
	}
	return err
}
