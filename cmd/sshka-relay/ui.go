package main

// What goes where.
//
// serve logs to stderr and prints nothing. The other commands print their result
// to stdout, so that it can be piped, and complaints to stderr. Every
// complaint is one line with its cause and the next step. The exit status says 0
// done, 1 failed, 2 usage or configuration. On a terminal a command that takes longer
// than a second shows what it waits for.

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

// Unwrap returns the mistake.
func (e usageError) Unwrap() error { return e.error }

// ui is what a person sees.
type ui struct {
	out *os.File
	err *console.Console
}

// fail says why, a line for each reason, and returns the exit status.
func (u *ui) fail(err error) int {
	u.err.Rest()
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(u.err, "sshka-relay: %s\n", line)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
