package status

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// counter takes snapshots whose pid counts them, and ends the watch after n.
func counter(n int, stop context.CancelFunc, fail func(int) error) func(context.Context) (*Snapshot, error) {
	taken := 0
	return func(context.Context) (*Snapshot, error) {
		if taken++; taken > n {
			stop()
		}
		if fail != nil {
			if err := fail(taken); err != nil {
				return nil, err
			}
		}
		return &Snapshot{Role: "proxy", Running: true, Version: "1", PID: taken}, nil
	}
}

func TestOneSnapshot(t *testing.T) {
	var b bytes.Buffer
	if err := (Show{}).run(t.Context(), &b, nil, counter(9, nil, nil)); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.HasPrefix(got, "sshka-proxy 1, pid 1, up 0ms\n\n") || strings.Count(got, "pid") != 1 {
		t.Errorf("%q", got)
	}
}

func TestTheVersionsThatDiffer(t *testing.T) {
	for version, want := range map[string]string{
		"": "", "1": "", "2": "\nthis program is 2: what runs is 1 until it is started anew\n",
	} {
		var b bytes.Buffer
		if err := (Show{Version: version}).run(t.Context(), &b, nil, counter(9, nil, nil)); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(b.String(), "no sessions\n"); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

func TestWatchingIntoAPipeWritesOneAfterTheOther(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var b bytes.Buffer
			start := time.Now()
			if err := (Show{JSON: asJSON, Watch: true}).run(ctx, &b, nil, counter(3, stop, nil)); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != 3*time.Second {
				t.Errorf("three snapshots took %v, want one each second", d)
			}
			next := "\n\nsshka-proxy 1, pid 2"
			if asJSON {
				next = "}\n\n{\n"
			}
			got := b.String()
			if strings.Contains(got, "\x1b") || !strings.Contains(got, next) || strings.Contains(got, "pid 4") {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestWatchingOnATerminalDrawsInPlace(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var b bytes.Buffer
		screen := func() (int, int) { return 4, 20 }
		if err := (Show{Watch: true}).run(ctx, &b, screen, counter(2, stop, nil)); err != nil {
			t.Fatal(err)
		}
		const want = clearScreen + goHome +
			"sshka-proxy 1, pid …" + clearLine + "\n" + clearLine + "\n" + "… 3 lines more" + clearLine + "\n" + clearBelow +
			goHome + "sshka-proxy 1, pid …" + clearLine + "\n" + clearLine + "\n" + "… 3 lines more" + clearLine + "\n" + clearBelow
		if got := b.String(); got != want {
			t.Errorf("%q\nwant\n%q", got, want)
		}
	})
}

// TestWatchingOutlivesARestart: only the first question must be answered.
func TestWatchingOutlivesARestart(t *testing.T) {
	cause := errors.New("nobody answers")
	simnet.Bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var b bytes.Buffer
		err := (Show{Watch: true}).run(ctx, &b, nil, counter(3, stop, func(n int) error {
			if n == 2 {
				return cause
			}
			return nil
		}))
		if err != nil || !strings.Contains(b.String(), "\n\nnobody answers\n\nsshka-proxy 1, pid 3") {
			t.Errorf("%v, %q", err, &b)
		}
	})
	var b bytes.Buffer
	err := (Show{Watch: true}).run(t.Context(), &b, nil, counter(9, nil, func(int) error { return cause }))
	if !errors.Is(err, cause) || b.Len() > 0 {
		t.Errorf("%v, %q", err, &b)
	}
}
