package status

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escaped returns a writer of JSON or of log lines to w, which writes as an escape of
// JSON every character that is no visible one, but those below the blank: encoding/json
// and log/slog leave DEL as it is, and the former C1 controls (U+009B begins a
// terminal's control sequences) and marks of direction, too. What JSON means stays the
// same. Each Write must end at the end of a character.
func Escaped(w io.Writer) io.Writer { return escaped{w} }

type escaped struct{ w io.Writer }

// Write writes p with escapes, in one Write.
func (e escaped) Write(p []byte) (int, error) {
	if _, err := e.w.Write(escape(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escape returns text with escapes. JSON has nothing of the kind outside of its
// strings.
func escape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r < ' ' || unicode.IsPrint(r): // those below ' ' are line ends and indents
			out = append(out, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[n:]
	}
	return out
}
