package keyauth

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// AuthorizedKeys is the Authorizer of an OpenSSH authorized_keys file. It reads
// the file again when it has changed, asked for at every Authorize by a few
// calls of stat. A file that is missing, or that others than its owner may
// write, authorizes nobody.
type AuthorizedKeys struct {
	path   string
	report func(Problem)

	mu     sync.Mutex // all below
	seen   look       // of the file when it was last read
	readAt time.Time  // wall clock before that read; zero: never read
	table  keyTable
}

// NewAuthorizedKeys returns the Authorizer of the file at path, which it reads
// at the first Authorize. Report is called once for each problem of a version
// of the file, from within an Authorize; nil discards.
func NewAuthorizedKeys(path string, report func(Problem)) *AuthorizedKeys {
	return &AuthorizedKeys{path: path, report: report}
}

// Authorize returns what the line for key grants, and whether there is one. No
// line depends on addr until from= is implemented.
func (a *AuthorizedKeys) Authorize(key ssh.PublicKey, _ netip.Addr) (Grant, bool) {
	table, problems := a.current()
	if a.report != nil {
		for _, p := range problems {
			a.report(p)
		}
	}
	row, ok := table.rows[string(key.Marshal())]
	return row.grant, ok && !row.refused
}

// Check reads the authorized_keys file at path and returns how many keys it
// authorizes, and all that is wrong with it: an empty list is a clean file.
func Check(path string) (keys int, problems []Problem) {
	t := readTable(path, lookAt(path), keyTable{})
	for _, row := range t.rows {
		if !row.refused {
			keys++
		}
	}
	return keys, t.problems
}

// settleTime is how long after a write a file may change once more without
// another modification time: file systems keep it in steps, FAT of 2 s.
const settleTime = 2 * time.Second

// current returns the table of the file as it is now, and the problems that have
// not been reported yet.
func (a *AuthorizedKeys) current() (keyTable, []Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	l := lookAt(a.path)
	settled := !a.table.unread && a.readAt.Sub(a.seen.modTime()).Abs() >= settleTime
	if !a.readAt.IsZero() && settled && l.same(a.seen) {
		return a.table, nil
	}
	fresh := readTable(a.path, l, a.table)
	unchanged := !a.readAt.IsZero() && fresh.sum == a.table.sum && slices.Equal(fresh.problems, a.table.problems)
	a.seen, a.readAt, a.table = l, now, fresh
	if unchanged {
		return fresh, nil
	}
	return fresh, fresh.problems
}

// keyTable is one version of the file. It is not changed once it is read.
type keyTable struct {
	rows     map[string]row // by the key's blob; nil: not read
	problems []Problem
	sum      [sha256.Size]byte // of the file's bytes
	// unread tells that the file could not be read, and is to be tried again
	// even if it stays as it is: the process may have been out of descriptors.
	unread bool
}

// row is the first line that names a key. As in sshd it is the one that counts:
// a key that stands refused there, say for its forced command, is not
// authorized by a later line.
type row struct {
	grant   Grant
	refused bool
}
