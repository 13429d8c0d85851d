package test

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// The janitor is a second process of this test binary. It waits for the tests to
// end, however they end (a timeout's panic and SIGKILL run no cleanup), and
// removes what they left behind.
const (
	janitorEnv    = "SSHKA_E2E_JANITOR" // the prefix of the namespaces to remove
	janitorDirEnv = "SSHKA_E2E_JANITOR_DIR"
)

// startJanitor returns a function that lets the janitor work and waits for it.
func startJanitor() (stop func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// Neither stdout nor stderr: go test waits for both to be closed.
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), janitorEnv+"="+prefix, janitorDirEnv+"="+workDir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		w.Close()
		cmd.Wait()
	}, nil
}

func janitor() {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	io.Copy(io.Discard, os.Stdin) // ends with the tests, which hold the other end
	removeNamespaces(os.Getenv(janitorEnv))
	os.Remove(netnsEtcDir) // if nobody else has files there
	if dir := os.Getenv(janitorDirEnv); strings.Contains(dir, "sshka-e2e-") {
		os.RemoveAll(dir)
	}
}
