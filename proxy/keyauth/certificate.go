package keyauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// What a certificate may hold that means something here (OpenSSH
// PROTOCOL.certkeys).
const (
	optionSourceAddress  = "source-address"
	optionVerifyRequired = "verify-required"
	extensionForwarding  = "permit-port-forwarding"
	extensionNoTouch     = "no-touch-required"
)

// certificateTypes names the type of key that each type of certificate is for.
var certificateTypes = map[string]string{
	ssh.CertAlgoED25519v01:    ssh.KeyAlgoED25519,
	ssh.CertAlgoECDSA256v01:   ssh.KeyAlgoECDSA256,
	ssh.CertAlgoECDSA384v01:   ssh.KeyAlgoECDSA384,
	ssh.CertAlgoECDSA521v01:   ssh.KeyAlgoECDSA521,
	ssh.CertAlgoRSAv01:        ssh.KeyAlgoRSA,
	ssh.CertAlgoSKED25519v01:  ssh.KeyAlgoSKED25519,
	ssh.CertAlgoSKECDSA256v01: ssh.KeyAlgoSKECDSA256,
}

// plainType is the type of the key behind a type, which may be a certificate's.
func plainType(keyType string) string {
	if t, ok := certificateTypes[keyType]; ok {
		return t
	}
	return keyType
}

// plainKey is the key behind key, which may be a certificate: what signs.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// checkCertificate tells why cert is worth nothing at now, whoever signed it.
// That its authority is one of ours is left to the Authorizer, as are the
// principals and where it may be used from: those are asked again later, this is
// not.
//
// ssh.CertChecker.CheckCert alone takes a host's certificate and one without
// principals, believes SHA-1, and any authority.
func checkCertificate(cert *ssh.Certificate, now time.Time) error {
	if plainType(cert.Type()) != cert.Key.Type() {
		return fmt.Errorf("certificates of type %s are not accepted", cert.Type())
	}
	if err := checkKeyType(cert.Key); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := checkKeyType(cert.SignatureKey); err != nil {
		return fmt.Errorf("authority of a certificate: %w", err)
	}
	if err := checkSignatureFormat(cert.SignatureKey.Type(), cert.Signature.Format); err != nil {
		return fmt.Errorf("authority of a certificate: %w", err)
	}
	_, forwards := cert.Extensions[extensionForwarding]
	switch {
	case cert.CertType != ssh.UserCert:
		return errors.New("not a user's certificate")
	case len(cert.ValidPrincipals) == 0 || slices.Contains(cert.ValidPrincipals, ""):
		return errors.New("a certificate without principals")
	case !forwards:
		return fmt.Errorf("a certificate without %s", extensionForwarding)
	}
	if _, err := sourceAddresses(cert); err != nil {
		return err
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{optionSourceAddress, optionVerifyRequired},
		Clock:                    func() time.Time { return now },
	}
	// The name is judged by namesOneOf.
	return checker.CheckCert(cert.ValidPrincipals[0], cert)
}

// namesOneOf tells whether cert is for one of the principals of its authority's
// line or, where that names none, for the account. Names are compared byte by
// byte, as sshd does.
func namesOneOf(cert *ssh.Certificate, principals []string, account string) bool {
	if principals == nil {
		return account != "" && slices.Contains(cert.ValidPrincipals, account)
	}
	return slices.ContainsFunc(principals, func(name string) bool { return slices.Contains(cert.ValidPrincipals, name) })
}

// sourceAddresses reads the source-address of cert: addresses and CIDRs, nothing
// negated. Nil: it has none.
func sourceAddresses(cert *ssh.Certificate) ([]netip.Prefix, error) {
	list, ok := cert.CriticalOptions[optionSourceAddress]
	if !ok {
		return nil, nil
	}
	var prefixes []netip.Prefix
	for s := range strings.SplitSeq(list, ",") {
		p, err := parsePattern(s)
		if err != nil || p.negated || p.glob != "" {
			return nil, fmt.Errorf("a certificate with a malformed %s", optionSourceAddress)
		}
		prefixes = append(prefixes, p.prefix)
	}
	return prefixes, nil
}

// comesFromSource tells whether cert may be used from addr.
func comesFromSource(cert *ssh.Certificate, addr netip.Addr) bool {
	prefixes, err := sourceAddresses(cert)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	return prefixes == nil || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// certificateGrant is what the line of an authority gives to cert: what both
// give, and all that either asks for.
func certificateGrant(cert *ssh.Certificate, line Grant) Grant {
	_, noTouch := cert.Extensions[extensionNoTouch]
	_, verify := cert.CriticalOptions[optionVerifyRequired]
	line.NoTouch = line.NoTouch && noTouch
	line.VerifyUser = line.VerifyUser || verify
	return line
}

// maxKeyID is how much of a key id identityName shows, in bytes.
const maxKeyID = 100

// identityName names who key is. Two names are the same only for the same key,
// or for certificates of the same authority with the same key id: a certificate
// that was issued anew, for another key even, is the same person. It holds no
// character that could harm a log.
func identityName(key ssh.PublicKey) string {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return ssh.FingerprintSHA256(key)
	}
	name := "CA " + ssh.FingerprintSHA256(cert.SignatureKey)
	switch id := cert.KeyId; {
	case id == "":
		// An authority that names nobody would make everybody the same person.
		return name + " key " + ssh.FingerprintSHA256(cert.Key)
	case len(id) <= maxKeyID:
		return name + " id " + strconv.QuoteToASCII(id)
	default:
		sum := sha256.Sum256([]byte(id))
		return name + " id " + strconv.QuoteToASCII(id[:maxKeyID]) + "... SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	}
}
