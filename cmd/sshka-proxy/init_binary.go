package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/sshka/sshka-proxy/proxy"
)

// maxProgram bounds the file that is sent, in bytes: a program, not an image by mistake.
const maxProgram = 256 << 20

// relayBinary finds the sshka-relay for a system: the one that was named, else one
// that lies beside this program.
func relayBinary(named, system, machine, self string) (string, error) {
	if named != "" {
		return named, nil
	}
	if system == "" || machine == "" {
		return "", errors.New("this kind of system is not known; build sshka-relay for it and name it: --relay-binary FILE")
	}
	dir := filepath.Dir(self)
	candidates := []string{
		filepath.Join(dir, "..", "dist", "build", system+"_"+machine, "sshka-relay"), // make dist
		filepath.Join(dir, "..", archiveName(system, machine), "sshka-relay"),        // an archive unpacked beside this one
	}
	if system == runtime.GOOS && machine == runtime.GOARCH {
		candidates = append([]string{filepath.Join(dir, "sshka-relay"+filepath.Ext(self))}, candidates...)
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); err == nil && info.Mode().IsRegular() {
			return filepath.Clean(c), nil
		}
	}
	return "", fmt.Errorf("there is no sshka-relay for %[1]s/%[2]s beside %[3]s; take that of %[4]s.tar.gz, or build one "+
		"(CGO_ENABLED=0 GOOS=%[1]s GOARCH=%[2]s go build ./cmd/sshka-relay), and name it: --relay-binary FILE", system, machine, self, archiveName(system, machine))
}

// archiveName is what make dist calls the archive for a system, and the folder in it.
func archiveName(system, machine string) string {
	if machine == "arm" {
		machine = "armv7"
	}
	return fmt.Sprintf("sshka-proxy_%s_%s_%s", proxy.Version, system, machine)
}

// send copies a program over there in the place of a mode, and returns its version. It
// appears whole, and only if it runs there.
func (r *remote) send(ctx context.Context, path, mode string) (version string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxProgram:
		return "", fmt.Errorf("%s is not a program", path)
	}
	said, err := r.ask(ctx, r.receiver(mode, info.Size()), f)
	if err != nil {
		return "", err
	}
	if version = relayVersion(said.first("version")); version == "" {
		return "", fmt.Errorf("%s is not sshka-relay", path)
	}
	return version, nil
}

// receiver is the command that takes a program from its standard input. The login
// shell that reads it may be any: what it sees is one word in single quotes, without
// any of the characters that some shell takes there for more than themselves.
func (r *remote) receiver(mode string, size int64) string {
	dir := "$HOME/.local/bin"
	if mode == modeSystem {
		dir = r.variables["top"] + "/usr/local/bin"
	}
	script := strings.NewReplacer("DIR", dir, "SIZE", strconv.FormatInt(size, 10), "MARK", r.mark).Replace(
		`umask 022; d=DIR; t=$d/.sshka-relay.$$; echo; echo MARK begin; ` +
			`if mkdir -p "$d" && cat >"$t" && test $(wc -c <"$t") -eq SIZE && chmod 755 "$t" && v=$("$t" --version); ` +
			`then case $v in "sshka-relay "*) mv -f "$t" "$d/sshka-relay" || echo failed cannot write "$d/sshka-relay" ;; esac; echo version "$v"; ` +
			`else echo failed the program did not arrive, or does not run there; fi; rm -f "$t"; echo; echo MARK end 0`)
	command := "sh -c '" + script + "'"
	if r.sudo {
		command = "sudo -n " + command
	}
	return command
}
