package config

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// TestNobodyWritesALineIntoTheLog: in either format what a peer sent stays within its
// line, and does nothing to a terminal.
func TestNobodyWritesALineIntoTheLog(t *testing.T) {
	evil := []string{"a\nlevel=ERROR msg=forged", "a\r{\"msg\":\"forged\"}", "\x1b[2J\a", "\u009b2J", "\x7f", "a\u202eb", "\u2028b", "\xff\xfe", "a\" b=c"}
	for _, format := range []Format{FormatText, FormatJSON} {
		name := filepath.Join(t.TempDir(), "log")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		log := Log{Format: format}.Logger(f, slog.LevelInfo)
		for _, e := range evil {
			log.Info("link up", "agent", e, "error", errors.New(e))
		}
		f.Close()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n != len(evil) {
			t.Errorf("%v: %d lines, want %d:\n%q", format, n, len(evil), text)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%v: %q stands as it came in %q", format, line[i:min(i+4, len(line))], line)
			}
			if format == FormatJSON && !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
	}
}
