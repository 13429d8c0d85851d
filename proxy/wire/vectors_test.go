package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// protocolFile is the specification that this package implements.
const protocolFile = "../../docs/protocol.md"

// vector is one block of docs/protocol.md §11.
type vector struct {
	name    string
	line    int    // of its first line in the file
	bytes   []byte // hex
	fields  string // of the message, as render writes them
	encodes []byte // what the message is written as; bytes unless the block says otherwise
	skipped bool
	err     error // what reading the bytes must match
}

// vectorErrors are the words of an "error:" line.
var vectorErrors = map[string]error{
	"protocol":       ErrProtocol,
	"unexpected end": io.ErrUnexpectedEOF,
	"end":            io.EOF,
}

// vectors reads all blocks of the specification.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	var all []vector
	lines := protocol(tb)
	for i := 0; i < len(lines); i++ {
		if lines[i] != "```vector" {
			continue
		}
		end := i + 1 + slices.Index(lines[i+1:], "```")
		v, err := parseVector(lines[i+1 : end])
		if err != nil {
			tb.Fatalf("%s:%d: %v", protocolFile, i+1, err)
		}
		v.line = i + 1
		all = append(all, v)
		i = end
	}
	if len(all) == 0 {
		tb.Fatalf("%s has no vectors", protocolFile)
	}
	return all
}

func protocol(tb testing.TB) []string {
	tb.Helper()
	text, err := os.ReadFile(protocolFile)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

func parseVector(lines []string) (v vector, err error) {
	var fields []string
	encodes := ""
	for i := 0; i < len(lines); i++ {
		key, value, _ := strings.Cut(lines[i], ":")
		parts := []string{strings.TrimPrefix(value, " ")}
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") { // continued
			i++
			parts = append(parts, strings.TrimSpace(lines[i]))
		}
		value = strings.Join(parts, " ")
		switch key {
		case "name":
			v.name = value
		case "hex":
			v.bytes, err = unhex(value)
		case "encodes":
			encodes = value
		case "skipped":
			v.skipped = true
		case "error":
			if v.err = vectorErrors[value]; v.err == nil {
				err = fmt.Errorf("unknown error %q", value)
			}
		default:
			fields = append(fields, key+": "+value)
		}
		if err != nil {
			return v, err
		}
	}
	v.fields = strings.Join(fields, "\n")
	v.encodes = v.bytes
	if encodes != "" {
		v.encodes, err = unhex(encodes)
	}
	return v, err
}

// unhex reads hexadecimal digits with blanks anywhere between bytes. 61*5 is a
// byte five times.
func unhex(s string) ([]byte, error) {
	var out []byte
	for word := range strings.FieldsSeq(s) {
		digits, times, repeated := strings.Cut(word, "*")
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, err
		}
		n := 1
		if repeated {
			if n, err = strconv.Atoi(times); err != nil {
				return nil, err
			}
		}
		out = append(out, bytes.Repeat(b, n)...)
	}
	return out, nil
}

// shown is b in hexadecimal, as short as unhex reads it.
func shown(b []byte) string {
	if n := len(b); n > 64 && bytes.Count(b, b[:1]) == n {
		return fmt.Sprintf("%02x*%d", b[0], n)
	}
	return hex.EncodeToString(b)
}

// render is a message as its vector's block shows it.
func render(m Message) string {
	lines := []string{"type: " + m.Type().String()}
	add := func(name string, value any) { lines = append(lines, fmt.Sprintf("%s: %v", name, value)) }
	text := func(name, value string) { add(name, strconv.Quote(value)) }
	millis := func(name string, d time.Duration) { add(name+"_ms", d.Milliseconds()) }
	refusal := func(c Code, after time.Duration, message string) {
		add("code", uint16(c))
		millis("retry_after", after)
		text("message", message)
	}
	switch m := m.(type) {
	case *Hello:
		add("min_version", m.MinVersion)
		add("max_version", m.MaxVersion)
		add("features", uint64(m.Features))
		add("instance", m.Instance)
		millis("window", m.Window)
		text("agent", m.Agent)
	case *Offer:
		for _, k := range m.Keys {
			add("key", shown(k))
		}
	case *Pick:
		add("index", m.Index)
	case *Proof:
		add("signature", shown(m.Signature))
	case *Ticket:
		add("kind", uint8(m.Kind))
		add("id", m.ID)
		add("mac", shown(m.MAC[:]))
	case *Welcome:
		add("ticket_id", m.TicketID)
		add("secret", shown(m.Secret[:]))
	case *Denied:
		refusal(m.Code, m.RetryAfter, m.Message)
	case *Beat:
		add("seq", m.Seq)
	case *BeatAck:
		add("seq", m.Seq)
	case *Receipt:
		add("bytes", m.Bytes)
	case *GoAway:
		millis("after", m.After)
		text("reason", m.Reason)
	case *SlowDown:
		millis("interval", m.Interval)
	case *Open:
		add("id", m.ID)
		add("generation", m.Generation)
		add("limit", m.Limit)
		text("host", m.Target.Host)
		add("port", m.Target.Port)
		add("early", shown(m.Early))
	case *Resume:
		add("id", m.ID)
		add("generation", m.Generation)
		add("received", m.Received)
		add("limit", m.Limit)
		add("instance", m.Instance)
	case *OK:
		add("received", m.Received)
		add("limit", m.Limit)
		add("secret", shown(m.Secret[:]))
	case *Refused:
		refusal(m.Code, m.RetryAfter, m.Message)
	case *Data:
		add("offset", m.Offset)
		add("bytes", shown(m.Bytes))
	case *Fin:
		add("offset", m.Offset)
	case *Ack:
		add("received", m.Received)
		add("limit", m.Limit)
	case *Reset:
		add("code", uint16(m.Code))
		text("message", m.Message)
	case *ResetAck:
	case *Moved:
		add("generation", m.Generation)
	case *TargetLeft:
		add("detached_ms", m.Detached.Milliseconds())
	default:
		return "no rendering of " + m.Type().String()
	}
	return strings.Join(lines, "\n")
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			r := bytes.NewReader(v.bytes)
			m, err := Read(r)
			switch {
			case v.err != nil:
				if m != nil || !errors.Is(err, v.err) {
					t.Errorf("%s:%d: %v, %v, want %v", protocolFile, v.line, m, err, v.err)
				}
				return
			case v.skipped:
				if m != nil || !errors.Is(err, io.EOF) { // the stream ends behind it
					t.Errorf("%s:%d: %v, %v", protocolFile, v.line, m, err)
				}
				return
			case err != nil:
				t.Fatalf("%s:%d: %v", protocolFile, v.line, err)
			}
			if got := strings.TrimSuffix(render(m), "\n"); got != v.fields {
				t.Errorf("%s:%d: reads as\n%s\nwant\n%s", protocolFile, v.line, got, v.fields)
			}
			if got := Append(nil, m); !bytes.Equal(got, v.encodes) {
				t.Errorf("%s:%d: is written as\n%x\nwant\n%x", protocolFile, v.line, got, v.encodes)
			}
			if r.Len() != 0 {
				t.Errorf("%s:%d: %d bytes left", protocolFile, v.line, r.Len())
			}
		})
	}
}

func TestEveryMessageHasVectors(t *testing.T) {
	good, bad := map[Type]int{}, map[Type]int{}
	names := map[string]bool{}
	for _, v := range vectors(t) {
		if v.name == "" || names[v.name] {
			t.Errorf("%s:%d: name %q is empty or used twice", protocolFile, v.line, v.name)
		}
		names[v.name] = true
		switch {
		case len(v.bytes) == 0:
		case errors.Is(v.err, ErrProtocol):
			bad[Type(v.bytes[0])]++
		case v.err == nil:
			good[Type(v.bytes[0])]++
		}
	}
	for typ := range kinds {
		if good[typ] == 0 {
			t.Errorf("no vector of %s", typ)
		}
		if bad[typ] == 0 {
			t.Errorf("no vector of a %s that is refused", typ)
		}
	}
}

// TestEveryTruncationOfAVector: a frame that ends early is never a message.
func TestEveryTruncationOfAVector(t *testing.T) {
	for _, v := range vectors(t) {
		if v.err != nil {
			continue
		}
		for n := range v.bytes {
			if n > 300 && n < len(v.bytes)-300 {
				continue // inside of a long run of the same bytes
			}
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if m, err := Read(bytes.NewReader(v.bytes[:n])); m != nil || !errors.Is(err, want) {
				t.Errorf("%s, first %d bytes: %v, %v", v.name, n, m, err)
			}
		}
		if v.skipped {
			continue
		}
		// The same with a length that agrees: the body is short, not the stream.
		typ, body := Type(v.bytes[0]), v.bytes[HeaderSize:]
		for n := range body {
			m, err := Decode(typ, body[:n])
			switch {
			case errors.Is(err, ErrProtocol) && m == nil:
			case err == nil && openEnded(typ, body, n):
			default:
				t.Errorf("%s, first %d bytes of its body: %v, %v", v.name, n, m, err)
			}
		}
	}
}

// openEnded reports whether the first n bytes of a body are a message too: the
// last field of some takes whatever there is.
func openEnded(t Type, body []byte, n int) bool {
	switch t {
	case TypeHello:
		return n >= 37+int(body[36])
	case TypeOpen:
		return n >= 35+int(body[32])
	case TypeData:
		return n > dataPrefix
	default:
		return false
	}
}

// section returns the lines under a heading up to the next heading of the same
// or a higher level.
func section(tb testing.TB, heading string) []string {
	tb.Helper()
	lines := protocol(tb)
	start := slices.Index(lines, heading)
	if start < 0 {
		tb.Fatalf("%s has no heading %q", protocolFile, heading)
	}
	level := strings.Index(heading, " ")
	for i, line := range lines[start+1:] {
		if n := len(line) - len(strings.TrimLeft(line, "#")); n > 0 && n <= level {
			return lines[start+1 : start+1+i]
		}
	}
	return lines[start+1:]
}

// rows returns the cells of the tables among lines, without their heads.
func rows(lines []string) (all [][]string) {
	for i, line := range lines {
		if !strings.HasPrefix(line, "| ") || i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|-") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		all = append(all, cells)
	}
	return all
}

func TestTheTableOfTypesIsTheDocumentedOne(t *testing.T) {
	want := map[string]bool{}
	for typ, k := range kinds {
		want[fmt.Sprintf("0x%02x %s %d", uint8(typ), k.name, k.max)] = true
	}
	for _, row := range rows(section(t, "### 3.2 Types")) {
		key := strings.Join(row[:3], " ")
		if !want[key] {
			t.Errorf("%s has %q", protocolFile, key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("%s lacks %q", protocolFile, key)
	}
}

func TestTheTableOfCodesIsTheDocumentedOne(t *testing.T) {
	want := map[string]bool{}
	for code, name := range codeNames {
		want[fmt.Sprintf("%d %s", code, name)] = true
	}
	for _, row := range rows(section(t, "## 8 Codes")) {
		key := strings.Join(row[:2], " ")
		if !want[key] {
			t.Errorf("%s has %q", protocolFile, key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("%s lacks %q", protocolFile, key)
	}
}

// TestEveryFieldIsInItsMessagesTable compares the names that vectors show with
// the table under the message's heading.
func TestEveryFieldIsInItsMessagesTable(t *testing.T) {
	for _, v := range vectors(t) {
		if v.err != nil || v.skipped {
			continue
		}
		var tables []string
		for _, row := range rows(section(t, "#### "+Type(v.bytes[0]).String())) {
			tables = append(tables, row[0])
		}
		for _, line := range strings.Split(v.fields, "\n")[1:] {
			name, _, _ := strings.Cut(line, ":")
			if !slices.Contains(tables, name) {
				t.Errorf("%s: field %s of %s is in no table", protocolFile, name, Type(v.bytes[0]))
			}
		}
	}
}

// TestNamedTestsExist: what pages say is held by a test is.
func TestNamedTestsExist(t *testing.T) {
	page := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	named := regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz)\\w+)`")
	for _, tt := range []struct {
		file, text string
		atLeast    int
	}{
		{protocolFile, strings.Join(section(t, "## 10 Invariants"), "\n"), 10},
		{"security.md", page("security.md"), 10},
		{"clients.md", page("clients.md"), 10},
		{"jump-host.md", page("jump-host.md"), 1},
	} {
		all := named.FindAllStringSubmatch(tt.text, -1)
		for _, m := range all {
			if !hasTest(t, m[1], m[2]) {
				t.Errorf("%s names %s.%s", tt.file, m[1], m[2])
			}
		}
		if len(all) < tt.atLeast {
			t.Errorf("%s: only %d tests are named", tt.file, len(all))
		}
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	dir := filepath.Join("..", pkg)
	switch pkg {
	case "proxy": // the package above
		dir = ".."
	case "test": // end to end, beside it
		dir = filepath.Join("..", "..", "test")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte("\nfunc "+name+"("))
	})
}
