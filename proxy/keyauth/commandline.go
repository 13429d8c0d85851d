package keyauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxOutput   = 1 << 20 // bytes that a command may print
	maxComplain = 4 << 10 // bytes of its stderr that are kept
)

// CheckCommand tells why argv cannot be an authorized_keys_command. Its first
// entry is the absolute path of the program; in the others %k stands for the key
// in base64, %t for its type, %f for its fingerprint and %% for a per cent sign. A
// certificate's key and type are the certificate's own.
func CheckCommand(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("names no program")
	}
	if !filepath.IsAbs(argv[0]) {
		return fmt.Errorf("%q is not an absolute path", argv[0])
	}
	for _, arg := range argv[1:] {
		for rest := arg; ; {
			_, after, found := strings.Cut(rest, "%")
			if !found {
				break
			}
			if after == "" || strings.Trim(after[:1], "ktf%") != "" {
				return fmt.Errorf("%q: after %% comes k (the key), t (its type), f (its fingerprint) or another %%", arg)
			}
			rest = after[1:]
		}
	}
	return nil
}

// expand fills the tokens of argv in.
func expand(argv []string, key ssh.PublicKey) []string {
	tokens := strings.NewReplacer(
		"%%", "%",
		"%k", base64.StdEncoding.EncodeToString(key.Marshal()),
		"%t", key.Type(),
		"%f", ssh.FingerprintSHA256(plainKey(key)),
	)
	full := append(make([]string, 0, len(argv)), argv[0])
	for _, arg := range argv[1:] {
		full = append(full, tokens.Replace(arg))
	}
	return full
}

// CheckProgram tells why the program at path is not run: somebody else than root
// or this user may change it, or the way to it.
func CheckProgram(path string) error {
	full, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(full)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", full)
	}
	for name := full; ; name = filepath.Dir(name) {
		if err := trusted(name, info); err != nil {
			return err
		}
		if name == filepath.Dir(name) {
			return nil
		}
		if info, err = os.Stat(filepath.Dir(name)); err != nil {
			return err
		}
	}
}

// runCommand returns what argv prints.
func runCommand(ctx context.Context, argv []string) ([]byte, error) {
	if err := CheckProgram(argv[0]); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator's program, checked above; no shell reads its arguments
	cmd.Dir = string(filepath.Separator)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + os.Getenv("HOME")}
	cmd.WaitDelay = time.Second // for pipes that its children keep open
	alone(cmd)
	out := &bounded{most: maxOutput, full: func() { stop(fmt.Errorf("prints more than %d bytes", maxOutput)) }}
	complaint := &bounded{most: maxComplain, full: func() {}}
	cmd.Stdout, cmd.Stderr = out, complaint
	err := cmd.Run()
	said := printable(complaint.kept.String())
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && said != "":
		return nil, fmt.Errorf("%w (%s)", err, clip(said))
	}
	return out.kept.Bytes(), err
}

func sumOf(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }
