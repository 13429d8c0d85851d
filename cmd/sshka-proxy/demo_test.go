package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestDemoShowsTheDeathAndTheLife(t *testing.T) {
	var out bytes.Buffer
	if err := demo(t.Context(), &out, 300*time.Millisecond); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"Connection reset by peer", "beat, answered in", "beat MISSED", `you type "and now?", the echo is back`,
		"no reset, no new login: 0 connections forgotten",
		"link lost: reset", "session RESUMED", `you type "with a cut link?", the echo is back`,
		`you type "from the train?", the echo is back`, "still the same login", "sshka-relay serve",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}
