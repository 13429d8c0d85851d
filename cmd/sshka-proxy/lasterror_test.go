package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestTheLastErrorIsOneAndSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "sshka", "last_error")
	if e := lastError(path); e != nil {
		t.Errorf("%+v before there was any", e)
	}
	var wg sync.WaitGroup
	for range 20 { // twenty ssh fail at once
		wg.Go(func() { keepLastError(path, "db", "22", strings.Repeat("é", 1<<20)) })
	}
	wg.Wait()
	e := lastError(path)
	if e == nil || e.Target != "db:22" || len(e.Text) > maxLastError || !strings.HasPrefix(e.Text, "éé") || strings.ContainsRune(e.Text, '\ufffd') {
		t.Fatalf("%+v", e)
	}
	keepLastError(path, "2001:db8::1", "22", "no route\x1b")
	if e := lastError(path); e.Target != "[2001:db8::1]:22" || e.Text != "no route\x1b" {
		t.Errorf("%+v", e)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v: one file is wanted", files, err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.HasSuffix(string(text), "\n") {
		t.Errorf("%q, %v: one line is wanted", text, err)
	}
	for _, nonsense := range []string{"", "{", "[]", "{}"} {
		if err := os.WriteFile(path, []byte(nonsense), 0o600); err != nil {
			t.Fatal(err)
		}
		if e := lastError(path); e != nil {
			t.Errorf("%q was read as %+v", nonsense, e)
		}
	}
}

func TestWhereTheLastErrorIs(t *testing.T) {
	for _, tt := range []struct{ home, state, want string }{
		{"/home/u", "", "/home/u/.local/state/sshka/last_error"},
		{"/home/u", "/state", "/state/sshka/last_error"},
		{"/home/u", "relative", "/home/u/.local/state/sshka/last_error"},
		{"", "", ""},
	} {
		env := map[string]string{"HOME": tt.home, "XDG_STATE_HOME": tt.state}
		if got := filepath.ToSlash(lastErrorFile(func(k string) string { return env[k] })); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
	keepLastError("", "db", "22", "nowhere to write to") // and nothing happens
}
