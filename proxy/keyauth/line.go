package keyauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// entry is one line of an authorized_keys file.
type entry struct {
	key     ssh.PublicKey // nil: the line has none
	terms   terms
	comment string
}

// parseLine reads one line of an authorized_keys file. A blank line and a
// comment are an empty entry. With an error the line authorizes nobody; the
// entry has its key if it could be read.
func parseLine(line string) (entry, error) {
	line = trimBlanks(strings.TrimSuffix(line, "\r"))
	if line == "" || line[0] == '#' {
		return entry{}, nil
	}
	var opts []option
	var optsErr error
	word, after := cutWord(line)
	if !isKeyType(word) {
		// "ssh-foo AAAA..." is meant as a key, not as an option named ssh-foo.
		if strings.HasPrefix(after, "AAAA") {
			return entry{}, fmt.Errorf("unknown key type %q", word)
		}
		if opts, line, optsErr = parseOptions(line); optsErr != nil {
			return entry{}, optsErr
		}
		word, after = cutWord(line)
	}

	e := entry{}
	e.terms, optsErr = readTerms(opts)
	var err error
	e.key, e.comment, err = parseKey(word, after)
	// What is wrong with the options tells more where the line is no key line at
	// all.
	if optsErr != nil {
		return e, optsErr
	}
	return e, err
}

// parseKey reads the key that follows the word for its type, and the comment
// after it. The key is nil if there is an error, except where it could be read
// and is not accepted.
func parseKey(word, s string) (ssh.PublicKey, string, error) {
	switch {
	case word == "":
		return nil, "", errors.New("no key")
	case !isKeyType(word):
		return nil, "", fmt.Errorf("unknown key type %q", word)
	}
	text, comment := cutWord(s)
	if text == "" {
		return nil, "", fmt.Errorf("no key after %q", word)
	}
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", fmt.Errorf("key is not base64: %w", err)
	}
	// sshd asks for both names to agree. Without that an option could pass for
	// the name of a type.
	if t := keyType(blob); t != word {
		return nil, "", fmt.Errorf("key type is %q, the key's own is %q", word, t)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, "", fmt.Errorf("malformed key: %w", err)
	}
	return key, comment, checkKeyType(key)
}

// isKeyType tells whether an authorized_keys line can start its key with word:
// all that OpenSSH knows, also what is not accepted here and refused by that
// name.
func isKeyType(word string) bool {
	if _, ok := signatureFormats[word]; ok {
		return true
	}
	return word == "ssh-dss" || isCertificate(word) || strings.HasPrefix(word, "ssh-mldsa-")
}

func trimBlanks(s string) string { return strings.Trim(s, " \t") }

// cutWord returns the first word of s and what follows the blanks after it.
func cutWord(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], trimBlanks(s[i:])
	}
	return s, ""
}
