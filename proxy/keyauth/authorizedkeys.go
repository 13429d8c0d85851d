package keyauth

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// AuthorizedKeys is the Rechecker of an OpenSSH authorized_keys file. It reads
// the file again when it has changed, asked for at every Authorize and Version by
// a few calls of stat. A file that is missing, or that others than its owner may
// write, authorizes nobody.
//
// A change counts for newcomers at once. For those who are in it counts when it
// has stood for settleTime, so that nobody is ended by half a file; one that is
// missing or cannot be believed, when it has been so for graceTime.
type AuthorizedKeys struct {
	path, account string
	report        func(Problem)

	mu      sync.Mutex // all below
	seen    look       // of the file when it was last read
	readAt  time.Time  // wall clock before that read; zero: never read
	table   *keyTable
	version uint64
	// good is the table that those who are in may rely on. While it is another than
	// table, that has been so since differs, and table is as it is since changed.
	good             *keyTable
	differs, changed time.Time
}

const (
	// settleTime is how long after a write a file may change once more without
	// another modification time: file systems keep it in steps, FAT of 2 s. And a
	// program that writes it in place has done so by then.
	settleTime = 2 * time.Second
	// graceTime is how long the file may be missing, or may not be believed,
	// before those who are in are turned out.
	graceTime = 10 * time.Second
)

// NewAuthorizedKeys returns the Authorizer of the file at path, which it reads
// at the first Authorize. A certificate has to name account, unless the line of
// its authority names principals; without an account (empty) such a line has to.
// Report is called once for each problem of a version of the file, from within
// an Authorize or Version; nil discards.
func NewAuthorizedKeys(path, account string, report func(Problem)) *AuthorizedKeys {
	return &AuthorizedKeys{path: path, account: account, report: report}
}

// Authorize returns what the first line for key gives that applies to addr now,
// and whether there is one.
func (a *AuthorizedKeys) Authorize(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	g, v := a.judge(key, addr)
	return g, v == granted
}

func (a *AuthorizedKeys) judge(key ssh.PublicKey, addr netip.Addr) (Grant, verdict) {
	return a.look().judge(key, addr, time.Now())
}

// Version looks at the file, see Rechecker.
func (a *AuthorizedKeys) Version() uint64 {
	a.look()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.version
}

// Recheck is Authorize for those who are in, see Rechecker.
func (a *AuthorizedKeys) Recheck(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	g, v := a.rejudge(key, addr)
	return g, v == granted
}

func (a *AuthorizedKeys) rejudge(key ssh.PublicKey, addr netip.Addr) (Grant, verdict) {
	a.mu.Lock()
	table, good := a.table, a.good
	a.mu.Unlock()
	now := time.Now()
	g, v := table.judge(key, addr, now)
	if v != granted && good != table {
		g, v = good.judge(key, addr, now)
	}
	return g, v
}

// Check reads the authorized_keys file at path and returns how many keys it
// authorizes, those of authorities included, and all that is wrong with it: an
// empty list is a clean file. The account is as for NewAuthorizedKeys.
func Check(path, account string) (keys int, problems []Problem) {
	t := readTable(path, account, lookAt(path), nil)
	return t.accepted(), t.problems
}

// look returns the table of the file as it is now, and reports its problems.
func (a *AuthorizedKeys) look() *keyTable {
	table, problems := a.current()
	if a.report != nil {
		for _, p := range problems {
			a.report(p)
		}
	}
	return table
}

// current returns the table of the file as it is now, and the problems that have
// not been reported yet.
func (a *AuthorizedKeys) current() (*keyTable, []Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	l := lookAt(a.path)
	never := a.readAt.IsZero()
	settled := !never && !a.table.unread && a.readAt.Sub(a.seen.modTime()).Abs() >= settleTime
	if settled && l.same(a.seen) {
		a.settle(now)
		return a.table, nil
	}
	old, fresh := a.table, readTable(a.path, a.account, l, a.table)
	a.seen, a.readAt, a.table = l, now, fresh
	same := !never && fresh.unread == old.unread && fresh.sum == old.sum
	if !same {
		a.version++
		a.changed = now
	}
	a.settle(now)
	if same && slices.Equal(fresh.problems, old.problems) {
		return fresh, nil
	}
	return fresh, fresh.problems
}

// settle lets a change count for those who are in, once it has stood for long
// enough. The caller holds mu.
func (a *AuthorizedKeys) settle(now time.Time) {
	switch {
	case a.good == nil: // nobody is in yet
		a.good = a.table
	case a.good == a.table, !a.table.unread && !a.good.unread && a.good.sum == a.table.sum:
		a.differs = time.Time{}
	case a.differs.IsZero():
		a.differs = now
	case now.Sub(a.differs) >= graceTime, !a.table.unread && now.Sub(a.changed) >= settleTime:
		a.good, a.differs = a.table, time.Time{}
		a.version++
	}
}
