package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sshka-proxy": main})
}

// TestScripts: testdata/*.txtar are the command's contract, one promise each.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SSH_AUTH_SOCK", "")
			env.Setenv("SSHKA_RELAY", "")
			env.Setenv("SSHKA_CONFIG", "")
			return os.MkdirAll(env.WorkDir+"/.ssh", 0o700)
		},
	})
}
