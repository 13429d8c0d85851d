package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/status"
)

// maxLastError bounds the text that is kept, in bytes, so that the file does not
// grow whatever the other end says.
const maxLastError = 1 << 10

// lastErrorFile is where the last error of a ProxyCommand is kept. The environment
// is read through env, as by os.Getenv. Empty: nowhere.
func lastErrorFile(env func(string) string) string { return config.UserState(env, "last_error") }

// keepLastError keeps the error of this ProxyCommand in the place of the last one,
// for status. Where that fails nobody is told: there is an error already.
func keepLastError(path, host, port, text string) {
	if path == "" {
		return
	}
	clip := func(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLastError)], "") }
	line, err := json.Marshal(status.LastError{Time: time.Now(), Target: net.JoinHostPort(clip(host), clip(port)), Text: clip(text)})
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".last_error-*") // 0600
	if err != nil {
		return
	}
	_, err = f.Write(append(line, '\n'))
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), path) != nil {
		_ = os.Remove(f.Name())
	}
}

// lastError returns what was kept, or nil.
func lastError(path string) *status.LastError {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var e status.LastError
	if json.NewDecoder(f).Decode(&e) != nil || e.Time.IsZero() {
		return nil
	}
	return &e
}
