package keyauth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// Ephemeral returns an identity of one ed25519 key that lives as long as the
// process, and its public key: for a proxy and a relay that are one process.
func Ephemeral() (*Identities, ssh.PublicKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	public := signer.PublicKey()
	k := key{blob: public.Marshal(), source: "this process", signer: memorySigner{signer}}
	return &Identities{keys: []key{k}}, public, nil
}

// memorySigner signs with a key in memory.
type memorySigner struct{ ssh.Signer }

func (s memorySigner) sign(_ context.Context, data []byte) (*ssh.Signature, error) {
	return s.Sign(rand.Reader, data)
}
