package transport

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// RelayKey is a relay's own key.
type RelayKey struct {
	// Fingerprint names it: SHA256:….
	Fingerprint string

	cert tls.Certificate
}

// NewRelayKey makes an ed25519 key.
func NewRelayKey() (*RelayKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make relay key: %w", err)
	}
	return newRelayKey(private)
}

func newRelayKey(private crypto.Signer) (*RelayKey, error) {
	// The certificate is a wrapper: only the key in it is looked at.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "sshka-relay"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 §4.1.2.5
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("wrap relay key: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("wrap relay key: %w", err)
	}
	return &RelayKey{
		Fingerprint: Fingerprint(leaf),
		cert:        tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf},
	}, nil
}

// LoadRelayKey reads a key from a PEM file (PKCS #8, RFC 5958), as openssl
// genpkey -algorithm ed25519 writes it too. A file that others can read is
// refused, as ssh refuses one, but for root's that a group may read. The error matches fs.ErrNotExist when there is
// none.
func LoadRelayKey(path string) (*RelayKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read relay key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read relay key: %w", err)
	}
	if !closedToOthers(info) {
		return nil, fmt.Errorf("read relay key: %s can be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	const most = 16 << 10
	data := make([]byte, min(info.Size(), most))
	if _, err := f.Read(data); err != nil {
		return nil, fmt.Errorf("read relay key %s: %w", path, err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read relay key: %s is not a PEM private key (PKCS #8)", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read relay key %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read relay key: %s holds a %T, only ed25519 is used", path, parsed)
	}
	return newRelayKey(private)
}

// LoadOrMakeRelayKey reads the key at path and makes it, 0600 in a directory
// 0700, when there is none. made tells which.
func LoadOrMakeRelayKey(path string) (key *RelayKey, made bool, err error) {
	key, err = LoadRelayKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if key, err = NewRelayKey(); err != nil {
		return nil, false, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.cert.PrivateKey)
	if err != nil {
		return nil, false, fmt.Errorf("write relay key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was first
			key, err = LoadRelayKey(path)
			return key, false, err
		}
		return nil, false, fmt.Errorf("write relay key: %w", err)
	}
	return key, true, nil
}

// writeNew writes a file that must not exist yet, whole or not at all.
func writeNew(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = giveTo(dir, f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path) // fails where there is one already
}
