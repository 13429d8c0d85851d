package config

import (
	"log/slog"
	"os"

	"github.com/sshka/sshka-proxy/proxy/status"
)

// Logger returns a logger to w in the format that the configuration wants. level
// is the least that is logged; a *slog.LevelVar may change. What a peer sent is
// escaped in either format.
func (l Log) Logger(w *os.File, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if l.Format == FormatText || l.Format == FormatAuto && isTerminal(w) {
		return slog.New(slog.NewTextHandler(status.Escaped(w), o))
	}
	return slog.New(slog.NewJSONHandler(status.Escaped(w), o))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
