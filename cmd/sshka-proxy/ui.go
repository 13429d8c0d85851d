package main

// What goes where.
//
// As a ProxyCommand this program stands inside somebody's ssh:
//
//   - stdout is the wire. It carries the target's bytes and never anything else.
//   - stderr is shown by ssh between its own lines, or not at all (PuTTY,
//     ControlPersist). It gets one line at most: the cause, and the next step.
//     With -v it gets all that a person debugging wants to see. On a terminal it
//     also shows what is being waited for, and takes that away again.
//   - nothing is asked: stdin is the wire, too.
//   - the exit status says 0 done, 1 failed, 2 usage or configuration.
//
// The other commands print their result to stdout and complaints to stderr.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
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

// statusError is an exit status whose reason a person has been told.
type statusError int

// Error names it.
func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ui is what a person sees.
type ui struct {
	out *os.File
	err *console.Console
	// failed is told what a person is, who may not see it. It may be nil.
	failed func(text string)
}

func newUI(w *os.File) *ui {
	return &ui{out: os.Stdout, err: console.New(w)}
}

// notice is a line on something good to know.
func (u *ui) notice(format string, args ...any) {
	fmt.Fprintf(u.err, "sshka-proxy: "+format+"\n", args...)
}

// fail says why and returns the exit status. host is the target's, empty outside
// a ProxyCommand.
func (u *ui) fail(err error, host string) int {
	var usage usageError
	var denied *keyauth.DeniedError
	var hinted hintedError
	lines := strings.Split(err.Error(), "\n")
	u.err.Rest()
	if u.failed != nil {
		u.failed(strings.Join(lines, "; "))
	}
	switch {
	case errors.As(err, &usage):
		for _, l := range lines { // one for every mistake
			fmt.Fprintf(u.err, "sshka-proxy: %s\n", l)
		}
		return exitUsage
	case client.Unreachable(err) && host != "":
		fmt.Fprintf(u.err, "sshka-proxy: %s; try: ssh -o ProxyCommand=none %s\n", strings.Join(lines, "; "), host)
	case errors.As(err, &hinted):
		fmt.Fprintf(u.err, "sshka-proxy: %s; %s\n", strings.Join(lines, "; "), hinted.next)
	case errors.As(err, &denied) && denied.Code == wire.CodeNotAllowed:
		fmt.Fprintf(u.err, "sshka-proxy: %s; %s\n", strings.Join(lines, "; "), proofNext(err))
	default:
		fmt.Fprintf(u.err, "sshka-proxy: %s\n", strings.Join(lines, "; "))
	}
	return exitFailed
}

// hintedError is an error with the next step, for a person.
type hintedError struct {
	error

	next string
}

// Unwrap returns the error.
func (e hintedError) Unwrap() error { return e.error }

// explain turns the end of a session into what a person can use. It is nil when
// there is nothing to say: the client itself is gone.
func explain(target, relay string, err error) error {
	var reset *session.ResetError
	var refused inbound.Refusal
	switch {
	case errors.As(err, &reset) && reset.Local && reset.Code == wire.CodeAborted:
		return nil
	case errors.As(err, &reset):
		return fmt.Errorf("%s: %w", target, reset)
	case errors.As(err, &refused) && refused.RefusalCode() == wire.CodeNotAllowed:
		// The relay does not know by which name we reach it.
		return hintedError{
			errors.New(strings.Replace(refused.Error(), "by this relay", "by relay "+relay, 1)),
			refusedNext(target, relay, wire.CodeNotAllowed),
		}
	}
	return err
}

// targetLeft explains why an ssh has ended that was only paused, as it seemed: its
// server waited in vain for an answer that no proxy can give.
func targetLeft(target string, after time.Duration) error {
	return fmt.Errorf("%s closed the connection %v after the link was lost: its ClientAliveInterval?", target, rounded(after))
}

// rounded is d as a person says it.
func rounded(d time.Duration) time.Duration {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// recorded is the notice that ssh users know from known_hosts.
func (u *ui) recorded(relay, fingerprint, file string) {
	u.notice("relay %s is new: its key %s is now in %s", relay, fingerprint, file)
}
