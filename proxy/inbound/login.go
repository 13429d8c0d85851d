package inbound

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
)

// Login is a name and a password that clients must know: SOCKS5's (RFC 1929) or
// HTTP's Basic (RFC 7617). They travel in the clear; on loopback nobody listens,
// elsewhere somebody may.
type Login struct{ User, Password string }

// Valid reports whether both are right. The time it takes tells nothing about
// where they differ.
func (l *Login) Valid(user, password string) bool {
	a, b := sha256.Sum256([]byte(user+"\x00"+password)), sha256.Sum256([]byte(l.User+"\x00"+l.Password))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// basic checks the Proxy-Authorization header of an HTTP request.
func (l *Login) basic(header http.Header) error {
	scheme, encoded, _ := strings.Cut(header.Get("Proxy-Authorization"), " ")
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || !strings.EqualFold(scheme, "Basic") || !l.Valid(user, password) {
		return &requestError{http.StatusProxyAuthRequired, "this proxy wants a user and a password (proxy.socks_user)"}
	}
	return nil
}
