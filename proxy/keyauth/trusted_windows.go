package keyauth

import (
	"errors"
	"io/fs"
	"os/exec"
)

// trusted refuses: who may change a program is not found out here.
func trusted(string, fs.FileInfo) error {
	return errors.New("authorized_keys_command is not supported on Windows")
}

func alone(*exec.Cmd) {}
