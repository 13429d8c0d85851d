package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// exampleConfig is the proxy's part of config.example.yaml. go:embed does not reach
// up, so make example copies it, and a test compares.
//
//go:embed init_config.yaml
var exampleConfig string

// configHead stands above it.
const configHead = `# sshka-proxy, written by sshka-proxy init. What is not set here is its default: #key
# shows each, and takes effect without its #. Durations and sizes carry units (20s,
# 1h30m, 4MiB). 0 turns a thing off. In paths ~/, $HOME and $XDG_RUNTIME_DIR are replaced.

`

// commentedKey is a key of the example that has no default.
var commentedKey = regexp.MustCompile(`^  # ([a-z_]+: \S+)$`)

// configFor is the example with the relay set. All else is commented out, since what
// stands in a file is wanted: a port that is taken would be fatal, a key that is missing
// a complaint.
func configFor(relay string) string {
	_, keys, _ := strings.Cut(exampleConfig, "\nproxy:\n")
	var text strings.Builder
	text.WriteString(configHead + "proxy:\n")
	for line := range strings.Lines(keys) {
		line = strings.TrimRight(line, "\n")
		key := commentedKey.FindStringSubmatch(line)
		switch {
		case key != nil && strings.HasPrefix(key[1], "relay:"):
			line = fmt.Sprintf("  relay: %q", relay) // an IPv6 address begins as a list does
		case key != nil:
			line = "  #" + key[1]
		case strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "  # "):
			line = "  #" + line[2:]
		}
		text.WriteString(line + "\n")
	}
	return text.String()
}

// writeConfig writes the configuration for a relay to path, 0600, whole or not at
// all, and never over another file.
func writeConfig(path, relay string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	f, err := os.CreateTemp(dir, ".config-*") // 0600
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err = f.WriteString(configFor(relay)); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the configuration %s: %w", path, err)
	}
	err = os.Link(f.Name(), path) // fails where there is one already
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was first; what it wrote is read next
	}
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
