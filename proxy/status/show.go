package status

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Show is how a status command shows what it is told.
type Show struct {
	// JSON is for a program, else the text for a person.
	JSON bool
	// Watch goes on every second until ctx is done.
	Watch bool
	// Version is that of the program that shows. The text says so where the process
	// that runs has another. "": not known.
	Version string
}

// watchTime is the pause between two snapshots.
const watchTime = time.Second

// Run asks take and writes the snapshot to out: in place where out is a terminal
// and it is to be watched, else one after the other. The error is take's first
// one; a later one stands in the text's place, since a process that is being
// watched may be restarted, and ends JSON.
func (s Show) Run(ctx context.Context, out *os.File, take func(context.Context) (*Snapshot, error)) error {
	var screen func() (rows, columns int) // nil: no terminal
	if info, err := out.Stat(); s.Watch && err == nil && info.Mode()&os.ModeCharDevice != 0 {
		screen = func() (int, int) { return terminalSize(out) }
	}
	return s.run(ctx, out, screen, take)
}

func (s Show) run(ctx context.Context, w io.Writer, screen func() (rows, columns int), take func(context.Context) (*Snapshot, error)) error {
	for first := true; ctx.Err() == nil; first = false {
		frame, err := s.frame(ctx, take)
		if err != nil {
			if first || !s.Watch || s.JSON {
				return err
			}
			frame = []byte(err.Error() + "\n")
		}
		if frame == nil {
			break // ^C while it was asked
		}
		if screen != nil {
			rows, columns := screen()
			frame = inPlace(frame, first, rows, columns)
		} else if !first {
			frame = append([]byte("\n"), frame...)
		}
		if _, err := w.Write(frame); err != nil {
			return fmt.Errorf("write status: %w", err)
		}
		if !s.Watch {
			return nil
		}
		select {
		case <-time.After(watchTime):
		case <-ctx.Done():
		}
	}
	return nil
}

// frame is one snapshot as it is written: nothing when ctx is done meanwhile.
func (s Show) frame(ctx context.Context, take func(context.Context) (*Snapshot, error)) ([]byte, error) {
	snapshot, err := take(ctx)
	select {
	case <-ctx.Done():
		return nil, nil
	default:
	}
	var b bytes.Buffer
	switch {
	case err != nil:
		return nil, err
	case s.JSON:
		err = snapshot.WriteJSON(&b)
	default:
		err = snapshot.WriteText(&b)
		if snapshot.Running && s.Version != "" && s.Version != snapshot.Version {
			fmt.Fprintf(&b, "\nthis program is %s: what runs is %s until it is started anew\n", s.Version, clean(snapshot.Version))
		}
	}
	return b.Bytes(), err
}

// The terminal's control sequences (ECMA-48).
const (
	clearScreen = "\x1b[2J"
	goHome      = "\x1b[H"
	clearLine   = "\x1b[K" // from the cursor on
	clearBelow  = "\x1b[J"
)

// inPlace draws a frame over the last one, without a moment of an empty screen.
// What does not fit is left out; a screen of 0 rows or columns is not known.
func inPlace(frame []byte, first bool, rows, columns int) []byte {
	lines := strings.Split(strings.TrimSuffix(string(frame), "\n"), "\n")
	if rows > 2 && len(lines) > rows-1 { // the cursor's line stays free
		lines = append(lines[:rows-2], fmt.Sprintf("… %d lines more", len(lines)-(rows-2)))
	}
	var b bytes.Buffer
	if first {
		b.WriteString(clearScreen)
	}
	b.WriteString(goHome)
	for _, l := range lines {
		if r := []rune(l); columns > 0 && len(r) > columns {
			l = string(r[:columns-1]) + "…"
		}
		b.WriteString(l + clearLine + "\n")
	}
	b.WriteString(clearBelow)
	return b.Bytes()
}
