package keyauth

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// minRSABits is the shortest RSA modulus that is accepted, in bits.
const minRSABits = 2048

// signatureFormats lists the key types that are accepted, each with the formats
// its signatures may have. Left out on purpose are DSA, and ssh-rsa as a
// signature format: that is SHA-1, which x/crypto/ssh verifies gladly.
var signatureFormats = map[string][]string{
	ssh.KeyAlgoED25519:    {ssh.KeyAlgoED25519},
	ssh.KeyAlgoECDSA256:   {ssh.KeyAlgoECDSA256},
	ssh.KeyAlgoECDSA384:   {ssh.KeyAlgoECDSA384},
	ssh.KeyAlgoECDSA521:   {ssh.KeyAlgoECDSA521},
	ssh.KeyAlgoRSA:        {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
	ssh.KeyAlgoSKED25519:  {ssh.KeyAlgoSKED25519},
	ssh.KeyAlgoSKECDSA256: {ssh.KeyAlgoSKECDSA256},
}

// checkKeyType tells why key is of a kind that is never accepted, or nil.
func checkKeyType(key ssh.PublicKey) error {
	if isCertificate(key.Type()) {
		return fmt.Errorf("a certificate (%s) is not accepted in place of a key", key.Type())
	}
	if _, ok := signatureFormats[key.Type()]; !ok {
		return fmt.Errorf("keys of type %s are not accepted", key.Type())
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return errors.New("an RSA key of unknown size is not accepted")
	}
	if k, ok := ck.CryptoPublicKey().(*rsa.PublicKey); !ok || k.N.BitLen() < minRSABits {
		return fmt.Errorf("an RSA key needs at least %d bits, this one is shorter", minRSABits)
	}
	return nil
}

// checkSignatureFormat tells whether a key of type keyType may sign in format.
func checkSignatureFormat(keyType, format string) error {
	if slices.Contains(signatureFormats[keyType], format) {
		return nil
	}
	return fmt.Errorf("signature format %q is not accepted for a key of type %s", format, keyType)
}

// isCertificate tells certificates from keys by the name of their type.
func isCertificate(keyType string) bool { return strings.Contains(keyType, "-cert-v") }

// isSecurityKey tells the types of keys that live in hardware (FIDO). Their
// signatures carry more than other signatures do.
func isSecurityKey(keyType string) bool { return strings.HasPrefix(keyType, "sk-") }
