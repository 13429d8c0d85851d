package keyauth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// keyTable is one version of a list of keys. It is not changed once it is read.
type keyTable struct {
	account string
	// keys and authorities are found by blob: a key for logging in, and one that
	// signs certificates. The same key may be both, by two lines.
	keys, authorities map[string][]row
	problems          []Problem
	sum               [sha256.Size]byte // of the file's bytes
	// unread tells that the list could not be read, and is to be tried again
	// even if it stays as it is: the process may have been out of descriptors.
	unread bool
}

// row is a line for a key. As in sshd the first that applies counts: lines for
// other addresses and lines that have expired are passed over. One that is
// refused ends the search: a forced command is not shaken off by a second line.
type row struct {
	grant      Grant
	refused    bool
	from       string   // as in terms
	principals []string // as in terms
}

// parseTable reads a list whose lines stand in the place called name. With a key
// only the lines for it are kept.
func parseTable(name, account, text string, only ssh.PublicKey) *keyTable {
	t := &keyTable{account: account, keys: map[string][]row{}, authorities: map[string][]row{}}
	beyond, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		err := t.add(strings.TrimSuffix(line, "\n"), name, n, only)
		switch {
		case err != nil && len(t.problems) < maxProblems:
			t.problems = append(t.problems, Problem{File: name, Line: n, Text: err.Error()})
		case err != nil:
			beyond++
		}
	}
	if beyond > 0 {
		t.problems = append(t.problems, Problem{File: name, Text: fmt.Sprintf("%d more lines are refused", beyond)})
	}
	return t
}

// add adds a line.
func (t *keyTable) add(line, name string, n int, only ssh.PublicKey) error {
	if len(line) > maxLine {
		return fmt.Errorf("line of %d bytes, at most %d", len(line), maxLine)
	}
	e, err := parseLine(line)
	if e.key == nil {
		return err
	}
	if err == nil && e.terms.authority && e.terms.principals == nil && t.account == "" {
		err = errors.New(`option "cert-authority" needs principals="..." beside it: this relay serves no single account whose name a certificate could hold`)
	}
	blob := string(e.key.Marshal())
	rows := t.keys
	if e.terms.authority {
		rows = t.authorities
	}
	if only != nil && blob != string(lineKey(only).Marshal()) {
		return err
	}
	known := rows[blob]
	if i := slices.IndexFunc(known, func(r row) bool { return r.refused }); i >= 0 {
		if err == nil {
			err = fmt.Errorf("the same key is refused on line %d, and its first line counts", known[i].grant.Line)
		}
		return err
	}
	r := row{grant: e.terms.grant(), refused: err != nil, principals: e.terms.principals}
	// Its own copies: the line is part of the whole text.
	r.from = strings.Clone(e.terms.from)
	r.grant.File, r.grant.Line, r.grant.Comment = name, n, strings.Clone(e.comment)
	rows[blob] = append(known, r)
	return err
}

// lineKey is the key whose lines speak of key: its own, or the authority's that
// signed it.
func lineKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.SignatureKey
	}
	return key
}

// accepted counts the keys that somebody could log in with.
func (t *keyTable) accepted() int {
	n := 0
	for _, m := range []map[string][]row{t.keys, t.authorities} {
		for _, rows := range m {
			if !rows[0].refused {
				n++
			}
		}
	}
	return n
}

// verdict is what a table says of a key.
type verdict int

const (
	unlisted verdict = iota // no line applies
	refused                 // one does, and says no
	granted
)

// judge returns what the first line for key gives that applies to somebody at
// addr now. A nil table lists nobody.
func (t *keyTable) judge(key ssh.PublicKey, addr netip.Addr, now time.Time) (Grant, verdict) {
	if t == nil {
		return Grant{}, unlisted
	}
	cert, isCert := key.(*ssh.Certificate)
	rows := t.keys
	if isCert {
		rows = t.authorities
	}
	for _, r := range rows[string(lineKey(key).Marshal())] {
		switch {
		case r.refused:
			return Grant{}, refused
		case !r.grant.Until.IsZero() && !now.Before(r.grant.Until), r.from != "" && !fromMatches(r.from, addr):
			continue
		case !isCert:
			return r.grant, granted
		case !namesOneOf(cert, r.principals, t.account) || !comesFromSource(cert, addr):
			continue
		}
		return certificateGrant(cert, r.grant), granted
	}
	return Grant{}, unlisted
}
