package keyauth

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// puttyKeyError is a private key in PuTTY's format. It is not read: its encryption is
// PuTTY's own, and an agent that holds it signs as well.
type puttyKeyError struct {
	path   string
	public ssh.PublicKey // nil: not understood
}

// Error names the ways to use such a key.
func (e *puttyKeyError) Error() string {
	if runtime.GOOS == "windows" { // whose puttygen is a window
		return e.path + " is a PuTTY key: load it into Pageant, or export it (PuTTYgen: Conversions > Export OpenSSH key)"
	}
	out, found := strings.CutSuffix(e.path, ".ppk")
	if !found {
		out += "-openssh"
	}
	return fmt.Sprintf("%s is a PuTTY key: load it into Pageant, or puttygen %s -O private-openssh -o %s", e.path, e.path, out)
}

// puttyPublic is the public key in a PPK file, where it stands in the clear.
func puttyPublic(text []byte) ssh.PublicKey {
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	for i, line := range lines {
		count, found := strings.CutPrefix(line, "Public-Lines: ")
		if !found {
			continue
		}
		n, err := strconv.Atoi(count)
		if rest := lines[i+1:]; err == nil && n > 0 && n <= len(rest) {
			return publicOf(strings.Join(rest[:n], ""))
		}
		break
	}
	return nil
}

// publicOf is the key whose blob is encoded, or nil.
func publicOf(encoded string) ssh.PublicKey {
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || checkKeyType(key) != nil {
		return nil
	}
	return key
}
