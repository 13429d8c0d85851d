package main

import (
	"bytes"
	"context"
	"crypto/rand"
	filesystem "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// scripts are what runs over there, in any POSIX shell.
//
//go:embed remote/*.sh
var scripts filesystem.FS

const (
	// maxAnswer bounds what is read from over there, in bytes.
	maxAnswer = 64 << 10
	// maxShown bounds what is shown of it, in bytes.
	maxShown = 300
	// masterTime is how long ssh's master waits for another step.
	masterTime = "600"
)

// remote runs scripts over there by the system's ssh, with the user's configuration
// of it and one login for all of them.
type remote struct {
	host    string   // as a person knows it
	options []string // of ssh, its operand included
	dir     string   // private, for the master's socket
	asks    bool     // a person is at the terminal
	err     io.Writer
	mark    string // stands around what is ours in the output: a login shell may print, too
	sudo    bool   // scripts run as root, by sudo
	// variables are set in every script.
	variables map[string]string
}

// newRemote prepares everything and runs nothing. The caller closes it.
func newRemote(to destination, ssh map[string]string, asks bool, stderr io.Writer) (*remote, error) {
	dir, err := os.MkdirTemp("", "sshka-init-") // 0700
	if err != nil {
		return nil, fmt.Errorf("make a directory for ssh's socket: %w", err)
	}
	r := &remote{host: to.host, dir: dir, asks: asks, err: stderr, mark: "sshka-" + rand.Text(), variables: map[string]string{}}
	// What ssh_config may have for sessions of a person is in the way of ours.
	r.options = []string{
		"-T", "-a", "-x", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no",
	}
	if runtime.GOOS != "windows" { // its ssh has no master
		path := strings.ReplaceAll(filepath.Join(dir, "s"), "%", "%%")
		r.options = append(r.options, "-o", "ControlMaster=auto", "-o", "ControlPath="+path, "-o", "ControlPersist="+masterTime)
	}
	if !asks {
		r.options = append(r.options, "-o", "BatchMode=yes")
	}
	if strings.Contains(ssh["proxycommand"], "sshka-proxy") { // what is being set up is not the way there
		r.options = append(r.options, "-o", "ProxyCommand=none", "-o", "ProxyUseFdpass=no")
	}
	r.options = append(r.options, "--", to.destination())
	return r, nil
}

// close ends the master.
func (r *remote) close() {
	if runtime.GOOS != "windows" {
		ctx, cancel := context.WithTimeout(context.Background(), sshTime)
		defer cancel()
		_ = exec.CommandContext(ctx, "ssh", append([]string{"-O", "exit"}, r.options...)...).Run() //nolint:gosec // checked by parseDestination
	}
	_ = os.RemoveAll(r.dir)
}

// answer is what a script said, the values of each word in their order.
type answer map[string][]string

// first is the first value of a word, "" where there is none.
func (a answer) first(word string) string {
	if len(a[word]) == 0 {
		return ""
	}
	return a[word][0]
}

// has tells whether a script said yes.
func (a answer) has(word string) bool { return a.first(word) == "yes" }

// scriptError is a script that says why it cannot go on.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// run runs one of the scripts and returns what it said.
func (r *remote) run(ctx context.Context, name string, variables map[string]string) (answer, error) {
	var text strings.Builder
	all := map[string]string{"m": r.mark}
	for _, from := range []map[string]string{r.variables, variables} {
		for k, v := range from {
			all[k] = v
		}
	}
	for k, v := range all {
		fmt.Fprintf(&text, "%s=%s\n", k, quoteShell(v))
	}
	// In brackets it is read to its end before anything of it runs.
	text.WriteString("(\nprintf '\\n%s begin\\n' \"$m\"\n(\n")
	for _, file := range []string{"places", name} {
		body, err := scripts.ReadFile("remote/" + file + ".sh")
		if err != nil {
			return nil, err
		}
		text.Write(body)
	}
	text.WriteString("\n)\nprintf '\\n%s end %s\\n' \"$m\" $?\n) </dev/null\n")
	command := "sh"
	if r.sudo {
		command = "sudo -n sh"
	}
	return r.ask(ctx, command, strings.NewReader(text.String()))
}

// ask runs a command, which any login shell understands.
func (r *remote) ask(ctx context.Context, command string, stdin io.Reader) (answer, error) {
	cmd := exec.CommandContext(ctx, "ssh", append(r.options[:len(r.options):len(r.options)], command)...) //nolint:gosec // checked by parseDestination
	cmd.Stdin = stdin
	stdout, stderr := &capped{most: maxAnswer}, &capped{most: maxAnswer}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if r.asks {
		cmd.Stderr = io.MultiWriter(stderr, r.err) // ssh tells a person when to touch a key
	}
	cmd.WaitDelay = time.Second // the master may hold our end of a pipe
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	said, whole := r.parse(stdout.String())
	switch why := said.first("failed"); {
	case whole && why != "":
		return nil, scriptError(shown(why))
	case whole:
		return said, nil
	}
	return nil, r.explain(err, stdout.String(), stderr.String())
}

// explain is why there is no answer.
func (r *remote) explain(err error, stdout, stderr string) error {
	last := lastLine(stderr)
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errNoSSH
	case errors.As(err, &exit) && exit.ExitCode() == 255: // ssh's own
		if last == "" {
			last = "exit status 255"
		}
		return fmt.Errorf("ssh %s: %s", r.host, last)
	case last != "":
		return fmt.Errorf("%s did not do it: %s", r.host, last)
	case lastLine(stdout) != "":
		return fmt.Errorf("%s did not run sh, it said: %s", r.host, lastLine(stdout))
	case err != nil:
		return fmt.Errorf("%s did not run sh: %w", r.host, err)
	}
	return fmt.Errorf("%s did not run sh", r.host)
}

// parse finds what is ours between the marks. whole tells that its end has come.
func (r *remote) parse(out string) (said answer, whole bool) {
	_, out, found := strings.Cut(out, "\n"+r.mark+" begin\n")
	if !found {
		return nil, false
	}
	out, rest, whole := strings.Cut(out, "\n"+r.mark+" end ")
	said = make(answer)
	for line := range strings.Lines(out) {
		word, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		said[word] = append(said[word], value)
	}
	status, _, _ := strings.Cut(rest, "\n")
	if n, err := strconv.Atoi(strings.TrimSpace(status)); whole && (err != nil || n != 0 && said.first("failed") == "") {
		return nil, false // the shell itself stumbled, and said so on stderr
	}
	return said, whole
}

// capped keeps the first bytes that are written, and swallows the rest.
type capped struct {
	bytes.Buffer
	most int
}

// Write never fails: a program that is not read would wait for ever.
func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(0, c.most-c.Len()))])
	return len(p), nil
}

// lastLine is the last line that says something, to be shown.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return shown(lines[len(lines)-1])
}

// shown is what came from over there as a person may see it: short, and without what a
// terminal obeys.
func shown(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
