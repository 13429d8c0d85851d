package proxy_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAttackNamesThatWouldWriteTheLog: whatever a proxy calls itself and its
// targets, every line of the relay's log, and of its status, is the relay's own.
func TestAttackNamesThatWouldWriteTheLog(t *testing.T) {
	const forged = "level=ERROR msg=forged"
	hostile := []string{
		"a\n" + forged, "a\r" + forged, "\x1b[2J\x1b]0;owned\a", "a\" " + forged, "\u202egnp.exe", "\u2028" + forged, "\xff\xfe", "a\x00b", "10.0.0.1\n" + forged,
	}
	simnet.Bubble(t, func(t *testing.T) {
		var log lockedBuffer
		h := build(t, options{
			agent: "sshka\n" + forged + "\x1b[2J", window: time.Hour,
			log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		for _, name := range hostile {
			c, err := h.client.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Write(wire.Append(nil, &wire.Open{ID: wire.ID{1}, Generation: 1, Target: wire.Target{Host: name, Port: 22}}))
			if m, err := wire.Read(c); err == nil {
				if _, refused := m.(*wire.Refused); !refused {
					t.Errorf("%q is answered %T", name, m)
				}
			}
			c.Close()
		}
		time.Sleep(time.Second)
		snapshot := h.relay.Snapshot()
		h.close()

		text := log.String()
		if n := strings.Count(text, "forged"); n == 0 {
			t.Error("the log tells nothing of what was tried")
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "time=") {
				t.Errorf("a line of somebody else: %q", line)
			}
			tame(t, line)
		}
		var shown bytes.Buffer
		if err := snapshot.WriteText(&shown); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(shown.String()) {
			if strings.HasPrefix(line, "level=") {
				t.Errorf("a line of somebody else: %q", line)
			}
			tame(t, line)
		}
	})
}

// tame fails on what a terminal would obey.
func tame(t *testing.T, line string) {
	t.Helper()
	if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q stands as it came in %q", line[i:min(i+4, len(line))], line)
	}
}

// lockedBuffer is a log that several write to.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
