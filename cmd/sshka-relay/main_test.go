package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sshka-relay": main})
}

// TestScripts: testdata/*.txtar are the command's contract, one promise each.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("STATE_DIRECTORY", "")
			env.Setenv("SSHKA_CONFIG", "")
			return nil
		},
	})
}
