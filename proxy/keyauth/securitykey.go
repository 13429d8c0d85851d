package keyauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// The flags of a security key's signature (OpenSSH PROTOCOL.u2f): what the
// hardware says of the person before it.
const (
	flagPresent  = 1 << 0 // touched it
	flagVerified = 1 << 2 // gave a PIN, or a finger
)

// keyState is what a security key adds to its signature.
type keyState struct {
	Flags   byte
	Counter uint32
}

// checkSecurityKey verifies the signature of a security key over data, made with
// as much of a person as g asks for.
func checkSecurityKey(pub ssh.PublicKey, data []byte, sig *ssh.Signature, g *Grant) error {
	var state keyState
	if err := ssh.Unmarshal(sig.Rest, &state); err != nil {
		return errors.New("malformed signature of a security key")
	}
	if g.VerifyUser && state.Flags&flagVerified == 0 {
		return errors.New("the security key has not verified its user (verify-required)")
	}
	if state.Flags&flagPresent != 0 || !g.NoTouch {
		return pub.Verify(data, sig) // which asks for a touch
	}
	return verifyUntouched(pub, data, sig, state)
}

// verifyUntouched is Verify for a signature without a touch, which x/crypto/ssh
// refuses and its own server alone can accept.
func verifyUntouched(pub ssh.PublicKey, data []byte, sig *ssh.Signature, state keyState) error {
	application, err := securityKeyApplication(pub)
	if err != nil {
		return err
	}
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	signed := ssh.Marshal(struct {
		Application []byte `ssh:"rest"`
		State       []byte `ssh:"rest"`
		Message     []byte `ssh:"rest"`
	}{app[:], ssh.Marshal(state), message[:]})

	ck, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return errors.New("a security key of an unknown kind")
	}
	valid := false
	switch key := ck.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		valid = len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signed, sig.Blob)
	case *ecdsa.PublicKey:
		var rs struct{ R, S *big.Int }
		if err := ssh.Unmarshal(sig.Blob, &rs); err != nil {
			return errors.New("malformed signature of a security key")
		}
		digest := sha256.Sum256(signed)
		valid = ecdsa.Verify(key, digest[:], rs.R, rs.S)
	}
	if !valid {
		return errors.New("ssh: signature did not verify")
	}
	return nil
}

// securityKeyApplication reads what a key was made for, "ssh:" as a rule. It is
// part of what the hardware signs.
func securityKeyApplication(pub ssh.PublicKey) (string, error) {
	blob := pub.Marshal()
	if pub.Type() == ssh.KeyAlgoSKED25519 {
		var k struct{ Type, Key, Application string }
		return unmarshalled(blob, &k, &k.Application)
	}
	var k struct{ Type, Curve, Point, Application string }
	return unmarshalled(blob, &k, &k.Application)
}

func unmarshalled(blob []byte, k any, field *string) (string, error) {
	if err := ssh.Unmarshal(blob, k); err != nil {
		return "", errors.New("malformed security key")
	}
	return *field, nil
}
