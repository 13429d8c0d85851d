package keyauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile is the largest file that is read as a key, in bytes.
const maxKeyFile = 64 << 10

// readPrivateKey reads an unencrypted private key. An encrypted one is a
// *ssh.PassphraseMissingError, a file that is not there fs.ErrNotExist.
func readPrivateKey(path string) (ssh.Signer, error) {
	text, err := readKeyFile(path, true)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(text, []byte("PuTTY-User-Key-File")) {
		return nil, &puttyKeyError{path, puttyPublic(text)}
	}
	if block, _ := pem.Decode(text); block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, &ssh.PassphraseMissingError{}
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("read private key %s: %w", path, err)
	}
	if err := checkKeyType(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// readPublicKey reads a FILE.pub: one line as in authorized_keys, without
// options.
func readPublicKey(path string) (ssh.PublicKey, error) {
	text, err := readKeyFile(path, false)
	if err != nil {
		return nil, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	word, after := cutWord(trimBlanks(string(first)))
	switch {
	case isCertificate(word):
		return nil, fmt.Errorf("%s is a certificate: name its key, and it is found beside it", path)
	case after != "" && !isKeyType(word):
		return nil, fmt.Errorf("read public key %s: begins with %s, not with a type of key", path, excerpt(word))
	}
	entry, err := parseLine(string(first))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	case entry.key == nil:
		return nil, fmt.Errorf("read public key %s: no key in its first line", path)
	}
	return entry.key, nil
}

// certificatePath is where ssh-keygen -s puts the certificate of the key whose
// private or public file is at path.
func certificatePath(path string) string { return strings.TrimSuffix(path, ".pub") + "-cert.pub" }

// readCertificate reads the certificate of the key pub. Nil: there is none.
func readCertificate(path string, pub []byte) (*ssh.Certificate, error) {
	text, err := readKeyFile(path, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	_, rest := cutWord(trimBlanks(string(first)))
	encoded, _ := cutWord(strings.TrimSuffix(rest, "\r"))
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s is no certificate: %w", path, err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("%s is no certificate: %w", path, err)
	}
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is no certificate", path)
	case cert.CertType != ssh.UserCert:
		return nil, fmt.Errorf("%s is not a user's certificate", path)
	case !bytes.Equal(cert.Key.Marshal(), pub):
		return nil, fmt.Errorf("%s is for another key than the one beside it", path)
	}
	return cert, nil
}

// readKeyFile reads a whole file. A private one must be closed to everyone but
// its owner, as ssh asks for.
func readKeyFile(path string, private bool) ([]byte, error) {
	// Before opening it: to open a FIFO would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	// Windows keeps no such modes.
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxKeyFile:
		return nil, fmt.Errorf("%s is larger than a key: over %d bytes", path, maxKeyFile)
	}
	return text, nil
}

// fileSigner signs with the private key in a file, which it reads anew: between
// signatures no private key stays in memory.
type fileSigner struct {
	path string
	blob []byte // the public key it was offered as
}

func (s fileSigner) sign(_ context.Context, data []byte) (*ssh.Signature, error) {
	signer, err := readPrivateKey(s.path)
	if err != nil {
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			return nil, encryptedError(s.path)
		}
		return nil, err
	}
	if !bytes.Equal(signer.PublicKey().Marshal(), s.blob) {
		return nil, fmt.Errorf("%s holds another key since it was offered", s.path)
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer.Sign(rand.Reader, data)
	}
	// Sign would mean SHA-1.
	rs, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%s cannot sign with %s", s.path, ssh.KeyAlgoRSASHA512)
	}
	return rs.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
}

func encryptedError(path string) error {
	return fmt.Errorf("%s is encrypted: add it to ssh-agent (ssh-add %s)", path, path)
}
