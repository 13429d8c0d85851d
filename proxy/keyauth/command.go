package keyauth

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// commandTime bounds one run, the wait for its turn included.
	commandTime = 5 * time.Second
	// commandCache is how long an answer counts for newcomers.
	commandCache = 10 * time.Second
	// commandPace is how old an answer about somebody who is in may get before the
	// command is asked again. Less than the minute in which a relay asks about all.
	commandPace = 55 * time.Second
	// commandGrace is how long the command may fail before those who are in by it
	// are turned out.
	commandGrace = 5 * time.Minute
	// commandForgets is how long an answer is kept that nobody asks for.
	commandForgets = 3 * time.Minute
	// commandRuns and commandReruns are how many runs there are at a time: about
	// newcomers, and about those who are in.
	commandRuns, commandReruns = 8, 2
	// maxAnswers is how many answers are kept.
	maxAnswers = 16384
	// maxLookups is about how many keys of one OFFER the command is asked. sshd
	// asks about six, since it lets nobody try more.
	maxLookups = 6
	// maxReported is how many different problems are remembered as reported.
	maxReported = 100
)

// Command is a program that knows authorized keys: it is asked about one key and
// prints lines as in an authorized_keys file, as sshd's AuthorizedKeysCommand
// does. It is run without a shell. One that fails authorizes nobody new.
type Command struct {
	argv    []string
	account string
	report  func(Problem)
	run     func(ctx context.Context, argv []string) ([]byte, error)

	life  context.Context // of its runs; a field since they outlive any one caller
	close context.CancelFunc
	tasks sync.WaitGroup
	// slots are taken by runs: [0] about newcomers, [1] about those who are in.
	slots [2]chan struct{}

	mu       sync.Mutex // all below
	answers  map[string]*answer
	version  uint64
	reported map[Problem]bool
}

// answer is what the command has said of one key. Guarded by Command.mu.
type answer struct {
	running chan struct{} // closed when the run ends that is under way; nil: none
	asked   time.Time     // when the last run ended; zero: none has
	table   *keyTable     // of the last run that did not fail; nil: none
	failing time.Time     // since when runs fail; zero: the last one did not
	wanted  time.Time     // when it was last looked at
}

// NewCommand returns the Rechecker of a command: the absolute path of a program
// and its arguments, with the tokens of CheckCommand. Account and report are as
// for NewAuthorizedKeys. The caller calls Close.
func NewCommand(argv []string, account string, report func(Problem)) (*Command, error) {
	if err := CheckCommand(argv); err != nil {
		return nil, err
	}
	c := &Command{
		argv: argv, account: account, report: report, run: runCommand,
		slots:   [2]chan struct{}{make(chan struct{}, commandRuns), make(chan struct{}, commandReruns)},
		answers: make(map[string]*answer), reported: make(map[Problem]bool),
	}
	c.life, c.close = context.WithCancel(context.Background())
	return c, nil
}

// Close ends all runs and waits for them. There are none from then on.
func (c *Command) Close() {
	c.mu.Lock()
	c.close()
	c.mu.Unlock()
	c.tasks.Wait()
}

// Authorize asks the command about key, or returns what it said in the last ten
// seconds.
func (c *Command) Authorize(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	blob := string(key.Marshal())
	c.mu.Lock()
	a := c.answers[blob]
	if a == nil {
		a = new(answer)
		c.makeRoom()
		if len(c.answers) < maxAnswers {
			c.answers[blob] = a
		}
	}
	a.wanted = time.Now()
	if a.running == nil && (a.asked.IsZero() || time.Since(a.asked) >= commandCache) {
		c.start(a, key, c.slots[0])
	}
	running := a.running
	c.mu.Unlock()
	if running != nil {
		<-running
	}

	c.mu.Lock()
	table := a.table
	if !a.failing.IsZero() {
		table = nil
	}
	c.mu.Unlock()
	g, v := table.judge(key, addr, time.Now())
	return g, v == granted
}

// Recheck returns what the command said last, and has it asked again from time to
// time. It forgives a command that fails, for a while. What nobody has asked for
// lately is not known any more.
func (c *Command) Recheck(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	c.mu.Lock()
	a := c.answers[string(key.Marshal())]
	if a == nil || time.Since(a.wanted) > commandForgets {
		c.mu.Unlock()
		return Grant{}, false
	}
	a.wanted = time.Now()
	pace := commandPace
	if !a.failing.IsZero() {
		pace = commandCache
	}
	if a.running == nil && time.Since(a.asked) >= pace {
		c.start(a, key, c.slots[1])
	}
	table := a.table
	if !a.failing.IsZero() && time.Since(a.failing) >= commandGrace {
		table = nil
	}
	c.mu.Unlock()
	g, v := table.judge(key, addr, time.Now())
	return g, v == granted
}

// Version returns another number once the command has said something new about
// somebody.
func (c *Command) Version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// start runs the command about key, in a turn of slots. The caller holds mu.
func (c *Command) start(a *answer, key ssh.PublicKey, slots chan struct{}) {
	if c.life.Err() != nil {
		return
	}
	done := make(chan struct{})
	a.running = done
	c.tasks.Go(func() {
		table, err := c.ask(key, slots)
		var problems []Problem
		if err != nil {
			problems = []Problem{{File: c.argv[0], Text: "authorizes nobody: " + err.Error()}}
		} else {
			problems = table.problems
		}
		c.mu.Lock()
		a.running, a.asked = nil, time.Now()
		switch {
		case err != nil && a.failing.IsZero():
			a.failing = a.asked
		case err == nil:
			if a.table != nil && a.table.sum != table.sum {
				c.version++
			}
			a.table, a.failing = table, time.Time{}
		}
		problems = c.unreported(problems)
		c.mu.Unlock()
		if c.report != nil && c.life.Err() == nil {
			for _, p := range problems {
				c.report(p)
			}
		}
		close(done)
	})
}

// ask runs the command once.
func (c *Command) ask(key ssh.PublicKey, slots chan struct{}) (*keyTable, error) {
	ctx, cancel := context.WithTimeoutCause(c.life, commandTime, fmt.Errorf("no answer within %v", commandTime))
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other runs: %w", context.Cause(ctx))
	}
	text, err := c.run(ctx, expand(c.argv, key))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	t := parseTable(c.argv[0], c.account, string(text), key)
	t.sum = sumOf(text)
	return t, nil
}

// unreported returns those problems that were not reported lately: the same output
// comes for key after key. The caller holds mu.
func (c *Command) unreported(problems []Problem) (fresh []Problem) {
	for _, p := range problems {
		if c.reported[p] {
			continue
		}
		if len(c.reported) >= maxReported {
			clear(c.reported)
		}
		c.reported[p] = true
		fresh = append(fresh, p)
	}
	return fresh
}

// makeRoom drops answers that nobody needs, where there are too many. The caller
// holds mu.
func (c *Command) makeRoom() {
	if len(c.answers) < maxAnswers {
		return
	}
	for blob, a := range c.answers {
		idle := time.Since(a.wanted)
		stranger := a.table == nil || len(a.table.keys)+len(a.table.authorities) == 0
		if a.running == nil && (idle > commandForgets || stranger && idle > commandCache) {
			delete(c.answers, blob)
		}
	}
}

// KeyLists asks a file first and then a command about the keys that the file does
// not list. A key that the file refuses is refused.
type KeyLists struct {
	File    *AuthorizedKeys
	Command *Command
}

// Authorize returns what the file or the command gives.
func (l KeyLists) Authorize(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	if g, v := l.File.judge(key, addr); v != unlisted {
		return g, v == granted
	}
	return l.Command.Authorize(key, addr)
}

// Version is another number when that of one of them is.
func (l KeyLists) Version() uint64 { return l.File.Version() + l.Command.Version() }

// Recheck is Authorize for those who are in.
func (l KeyLists) Recheck(key ssh.PublicKey, addr netip.Addr) (Grant, bool) {
	if g, v := l.File.rejudge(key, addr); v != unlisted {
		return g, v == granted
	}
	return l.Command.Recheck(key, addr)
}

// pick looks for all keys in the file, before it asks the command about the first
// few: a stranger may offer many.
func (l KeyLists) pick(keys []ssh.PublicKey, addr netip.Addr) int {
	var unknown []int
	for i, key := range keys {
		_, v := l.File.judge(key, addr)
		if v == granted {
			return i
		}
		if v == unlisted {
			unknown = append(unknown, i)
		}
	}
	for _, i := range unknown[:min(len(unknown), maxLookups)] {
		if _, ok := l.Command.Authorize(keys[i], addr); ok {
			return i
		}
	}
	return -1
}

// bounded keeps what a program prints, up to a bound. The buffer is not embedded:
// its ReadFrom would go around the bound.
type bounded struct {
	kept bytes.Buffer
	most int
	full func() // called beyond the bound
}

// Write drops what is beyond the bound.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - b.kept.Len()
	if len(p) > room {
		_, _ = b.kept.Write(p[:room])
		b.full()
		return len(p), nil
	}
	return b.kept.Write(p)
}
