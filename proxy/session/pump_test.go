package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// pumped is what a pump has written, and how it ended.
type pumped struct {
	mu    sync.Mutex // guards all below
	got   bytes.Buffer
	fail  error
	calls int
	total int64
	err   error
}

func (p *pumped) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return 0, p.fail
	}
	return p.got.Write(b)
}

func (p *pumped) done(total int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	p.total, p.err = total, err
}

// fed is a session at the relay that stores what a test says the proxy has sent.
func fed() *Session {
	return Accept(Config{}, &wire.Open{Target: wire.Target{Host: "target", Port: 22}})
}

func (s *Session) feed(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m.in.append([]byte(text))
	s.m.received += uint64(len(text))
	s.wake()
}

func TestAPumpCostsNoGoroutineWhileNothingComes(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		s, p := fed(), &pumped{}
		s.feed("early ")
		before := runtime.NumGoroutine()
		s.Pump(p, p.done)
		synctest.Wait()
		if n := simnet.Goroutines(before); n > before {
			t.Errorf("%d goroutines more", n-before)
		}
		for range 100 {
			s.feed("x")
			time.Sleep(time.Hour)
		}
		s.feed(" late")
		s.mu.Lock()
		s.m.peerFin = true
		s.wake()
		s.mu.Unlock()
		synctest.Wait()
		if want := "early " + string(bytes.Repeat([]byte("x"), 100)) + " late"; p.got.String() != want {
			t.Errorf("got %q", p.got.String())
		}
		if p.calls != 1 || p.err != nil || p.total != int64(p.got.Len()) {
			t.Errorf("%d times told that it is over: %d bytes, %v", p.calls, p.total, p.err)
		}
		s.Abandon(nil)
	})
}

func TestAPumpTellsWhyItEnded(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		end  func(*Session, *pumped)
		want error
	}{
		"the session fails":     {func(s *Session, _ *pumped) { s.Abandon(broken) }, broken},
		"the deadline passes":   {func(s *Session, _ *pumped) { s.SetReadDeadline(time.Now().Add(time.Second)) }, os.ErrDeadlineExceeded},
		"it cannot be written":  {func(s *Session, p *pumped) { p.fail = broken; s.feed("lost") }, broken},
		"the session is closed": {func(s *Session, _ *pumped) { s.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				s, p := fed(), &pumped{}
				s.Pump(p, p.done)
				s.feed("text")
				synctest.Wait()
				tt.end(s, p)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if p.calls != 1 || p.total != 4 || !errors.Is(p.err, tt.want) {
					t.Errorf("%d times told that it is over: %d bytes, %v; want %v", p.calls, p.total, p.err, tt.want)
				}
				s.Abandon(io.EOF)
			})
		})
	}
}
