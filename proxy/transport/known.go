package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KnownRelays is the file that remembers relays by their keys, as known_hosts
// does for ssh:
//
//	# comments and blank lines
//	relay.example.com:7422 SHA256:…
//
// Several lines may stand for one relay, for the time of a key's rotation.
type KnownRelays struct {
	// Path is the file. It need not exist.
	Path string
}

// Pin is one line of the file.
type Pin struct {
	Relay       string // HOST:PORT
	Fingerprint string
	Line        int
}

// maxKnownLine is the longest line, in bytes.
const maxKnownLine = 4 << 10

// Lookup returns the pins of relay, HOST:PORT. A line that cannot be understood
// is an error: it may be the one that matters.
func (k *KnownRelays) Lookup(relay string) ([]Pin, error) {
	f, err := os.Open(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read known relays: %w", err)
	}
	defer f.Close()
	var pins []Pin
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxKnownLine)
	n := 0
	for lines.Scan() {
		n++
		pin, err := parseKnown(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", k.Path, n, err)
		}
		if pin != nil && strings.EqualFold(pin.Relay, relay) {
			pin.Line = n
			pins = append(pins, *pin)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", k.Path, n+1, err)
	}
	return pins, nil
}

// parseKnown reads one line; nil for a blank one or a comment.
func parseKnown(line string) (*Pin, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil, nil
	}
	words := strings.Fields(line)
	if len(words) < 2 || len(words) > 2 && words[2][0] != '#' {
		return nil, errors.New("want HOST:PORT SHA256:…")
	}
	if !strings.Contains(words[0], ":") {
		return nil, fmt.Errorf("%q has no port", words[0])
	}
	if err := ParseFingerprint(words[1]); err != nil {
		return nil, err
	}
	return &Pin{Relay: words[0], Fingerprint: words[1]}, nil
}

// Add records a relay. The write is one append, which the kernel does not mix
// with another process's.
func (k *KnownRelays) Add(relay, fingerprint string) error {
	if k.Path == "" {
		return errors.New("record relay: known_relays is not set")
	}
	if err := os.MkdirAll(filepath.Dir(k.Path), 0o700); err != nil {
		return fmt.Errorf("record relay: %w", err)
	}
	f, err := os.OpenFile(k.Path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("record relay: %w", err)
	}
	defer f.Close()
	unlock, err := lockFile(f)
	if err != nil {
		return fmt.Errorf("record relay: lock %s: %w", k.Path, err)
	}
	defer unlock()
	if pins, err := k.Lookup(relay); err != nil || len(pins) > 0 {
		return err // another process was first; what it recorded is checked next time
	}
	line := relay + " " + fingerprint + "\n"
	if !endsLine(f) {
		line = "\n" + line
	}
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("record relay: %w", err)
	}
	return nil
}

// endsLine reports whether the file is empty or ends with a newline.
func endsLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err != nil || last[0] == '\n'
}
