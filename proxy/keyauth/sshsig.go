package keyauth

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The fixed parts of an SSHSIG blob (OpenSSH PROTOCOL.sshsig).
const (
	sshsigVersion = 1
	sshsigHash    = "sha512"
)

var sshsigMagic = [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}

// sshsig is the blob that a PROOF carries.
type sshsig struct {
	Magic     [6]byte
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sshsigSigned is what the key signs in place of the message. Its first bytes
// cannot be taken for the start of ssh's own userauth data, which is a session
// id behind its length.
type sshsigSigned struct {
	Magic     [6]byte
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func toBeSigned(message []byte) []byte {
	digest := sha512.Sum512(message)
	return ssh.Marshal(sshsigSigned{
		Magic: sshsigMagic, Namespace: Namespace, Hash: sshsigHash, Digest: digest[:],
	})
}

// sign returns the SSHSIG blob by which k proves b.
func sign(ctx context.Context, k *key, b Binding) ([]byte, error) {
	sig, err := k.signer.sign(ctx, toBeSigned(b.message()))
	if err != nil {
		return nil, err
	}
	return ssh.Marshal(sshsig{
		Magic: sshsigMagic, Version: sshsigVersion, PublicKey: k.blob,
		Namespace: Namespace, Hash: sshsigHash, Signature: ssh.Marshal(*sig),
	}), nil
}

// parseSSHSIG reads an SSHSIG blob, to its last byte, and checks all that can
// be checked without the key.
func parseSSHSIG(blob []byte) (*sshsig, error) {
	s := new(sshsig)
	if err := ssh.Unmarshal(blob, s); err != nil {
		return nil, errors.New("not an SSHSIG blob")
	}
	switch {
	case s.Magic != sshsigMagic:
		return nil, errors.New("not an SSHSIG blob")
	case s.Version != sshsigVersion:
		return nil, fmt.Errorf("version %d", s.Version)
	case s.Namespace != Namespace:
		return nil, fmt.Errorf("namespace %q", s.Namespace)
	case s.Reserved != "":
		return nil, errors.New("reserved field is not empty")
	case s.Hash != sshsigHash:
		return nil, fmt.Errorf("hash %q", s.Hash)
	}
	return s, nil
}

// checkProof tells why proof is no valid signature for b by the key pub, or by the
// key of the certificate pub, which was offered as the bytes of offered. Of a
// security key it asks what g asks.
func checkProof(proof, offered []byte, pub ssh.PublicKey, b Binding, g *Grant) error {
	s, err := parseSSHSIG(proof)
	if err != nil {
		return err
	}
	if !bytes.Equal(s.PublicKey, offered) {
		return errors.New("made by another key than the one picked")
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(s.Signature, &sig); err != nil {
		return errors.New("malformed signature")
	}
	pub = plainKey(pub)
	if err := checkSignatureFormat(pub.Type(), sig.Format); err != nil {
		return err
	}
	if isSecurityKey(pub.Type()) {
		return checkSecurityKey(pub, toBeSigned(b.message()), &sig, g)
	}
	if len(sig.Rest) > 0 {
		return errors.New("bytes after the signature")
	}
	return pub.Verify(toBeSigned(b.message()), &sig)
}
