package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The comparison is no test: it measures this program beside others and writes
// tables. make bench-compare runs it, with these in the environment.
const (
	compareEnv       = "SSHKA_COMPARE"        // 1, or short: enough to see that it works
	compareRoundsEnv = "SSHKA_COMPARE_ROUNDS" // how often every peer has its turn
	compareOnlyEnv   = "SSHKA_COMPARE_ONLY"   // a regular expression of scenarios
	compareOutEnv    = "SSHKA_COMPARE_OUT"    // where the tables go; docs/ by default
)

// effort is how long a comparison takes.
type effort struct {
	Mode   string `json:"mode"`
	Rounds int    `json:"rounds"`

	warm, bulk       time.Duration // of a transfer: before it counts, and while it counts
	wanWarm, wanBulk time.Duration // the same on a long line
	echo             time.Duration // of echoes without bulk
	opens, wanOpens  int           // sessions, one after the other
	starts           int           // of a ProxyCommand
	sessions, forked int           // idle ones; of a peer that has a process for each
	links            int           // idle ones
	settled          time.Duration // before an idle program is looked at
	beat, beats      time.Duration // between the beats of a link; how long they are watched
	film             time.Duration // of what happens over time
}

var efforts = map[string]effort{
	"short": {
		Mode: "short", Rounds: 1,
		warm: 200 * time.Millisecond, bulk: 500 * time.Millisecond,
		wanWarm: 1500 * time.Millisecond, wanBulk: 3 * time.Second,
		echo: 300 * time.Millisecond, opens: 200, wanOpens: 8, starts: 15,
		sessions: 500, forked: 50, links: 300, settled: 3 * time.Second,
		beat: 2 * time.Second, beats: 8 * time.Second, film: 12 * time.Second,
	},
	"1": {
		Mode: "full", Rounds: 5,
		warm: 300 * time.Millisecond, bulk: 2 * time.Second,
		wanWarm: 4 * time.Second, wanBulk: 10 * time.Second,
		echo: time.Second, opens: 1000, wanOpens: 20, starts: 60,
		// A daemon serves 4,096 clients at once (inbound.DefaultMaxConns).
		sessions: 4000, forked: 200, links: 10_000, settled: 10 * time.Second,
		beat: 20 * time.Second, beats: 60 * time.Second, film: 30 * time.Second,
	},
}

// scenario is a place to compare at, and what is measured there.
type scenario struct {
	name, title string
	line        *conditions // both ways, between clients and relay; nil: all is in one namespace
	control     string      // the congestion control of both ends; "": the machine's
	compare     func(*comparison, *scenario)
}

// scenarios in the order in which they run and are shown. The queues hold about 100 ms.
var scenarios = []scenario{
	{name: "loopback", title: "Loopback, reno", compare: (*comparison).near, control: "reno"},
	{name: "start", title: "Start of a ProxyCommand, on one machine", compare: (*comparison).commands},
	{name: "idle", title: "Idle sessions, both ends together", compare: (*comparison).idlers},
	{name: "links", title: "Idle links, at the relay", compare: (*comparison).idleLinks},
	{
		name: "wan-a", title: "WAN A: 100 Mbit/s, 100 ms there and back, queue 100 ms", compare: (*comparison).far,
		line: &conditions{rate: 100_000_000, queue: 1_250_000, delay: 50 * time.Millisecond},
	},
	{
		name: "wan-b-reno", title: "WAN B: 20 Mbit/s, 50 ms there and back, queue 100 ms, reno", compare: (*comparison).far, control: "reno",
		line: &conditions{rate: 20_000_000, queue: 250_000, delay: 25 * time.Millisecond},
	},
	{
		name: "wan-b-bbr", title: "WAN B: the same, bbr", compare: (*comparison).far, control: "bbr",
		line: &conditions{rate: 20_000_000, queue: 250_000, delay: 25 * time.Millisecond},
	},
	{
		name: "wan-c", title: "WAN C: 100 Mbit/s, 50 ms there and back, 0.1 % loss", compare: (*comparison).far,
		line: &conditions{rate: 100_000_000, queue: 1_250_000, delay: 25 * time.Millisecond, loss: 0.001},
	},
	{
		name: "film", title: "WAN B over time, reno", compare: (*comparison).film, control: "reno",
		line: &conditions{rate: 20_000_000, queue: 250_000, delay: 25 * time.Millisecond},
	},
}

// comparison is one run.
type comparison struct {
	t      *testing.T
	how    effort
	report *report
}

// TestCompare measures, and fails only where something cannot be measured.
func TestCompare(t *testing.T) {
	mode := os.Getenv(compareEnv)
	if mode == "" {
		t.Skip("the comparison with other programs runs with SSHKA_COMPARE=1 (make bench-compare)")
	}
	how, ok := efforts[mode]
	if !ok {
		t.Fatalf("%s=%s: write 1 or short", compareEnv, mode)
	}
	needLab(t)
	if text := os.Getenv(compareRoundsEnv); text != "" {
		rounds, err := strconv.Atoi(text)
		if err != nil || rounds < 1 {
			t.Fatalf("%s=%s: write a number from 1", compareRoundsEnv, text)
		}
		how.Rounds = rounds
	}
	only, err := regexp.Compile(os.Getenv(compareOnlyEnv))
	if err != nil {
		t.Fatalf("%s: %v", compareOnlyEnv, err)
	}
	out := os.Getenv(compareOutEnv)
	if out == "" {
		out = "docs"
	}
	if !filepath.IsAbs(out) {
		out = filepath.Join("..", out) // tests run in the folder of their package
	}
	c := &comparison{t: t, how: how, report: newReport(how, only.String())}
	c.raiseDescriptors()
	for i := range scenarios {
		s := &scenarios[i]
		if !only.MatchString(s.name) {
			continue
		}
		whole := t.Run(s.name, func(t *testing.T) {
			if s.control != "" && !hasControl(s.control) {
				c.report.leaveOut(s.name, "this kernel does not offer "+s.control)
				t.Skip("this kernel does not offer " + s.control)
			}
			started := time.Now()
			sub := *c
			sub.t = t
			c.report.Scenarios = append(c.report.Scenarios, shownScenario{Name: s.name, Title: s.title})
			s.compare(&sub, s)
			c.progress("%s took %s", s.name, time.Since(started).Round(time.Second))
		})
		if !whole {
			c.report.leaveOut(s.name, "some of it, since it failed")
		}
	}
	if err := c.report.save(out); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(os.Stderr, c.report.text())
}

// progress tells a person who waits.
func (c *comparison) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// raiseDescriptors lets this process, and what it starts, hold many sockets. Where the system
// allows too few, fewer sessions and links are held.
func (c *comparison) raiseDescriptors() {
	c.t.Helper()
	const spare = 2000
	allowed := raiseDescriptors(c.t)
	room := allowed - spare
	// A session takes two here, the client's and the target's, and two of a program between.
	if fewer := min(c.how.sessions, room/2); fewer < c.how.sessions {
		c.report.remark("%d idle sessions, not %d: the system allows %d descriptors", fewer, c.how.sessions, allowed)
		c.how.sessions = fewer
	}
	if fewer := min(c.how.links, room); fewer < c.how.links {
		c.report.remark("%d idle links, not %d: the system allows %d descriptors", fewer, c.how.links, allowed)
		c.how.links = fewer
	}
}

// raiseDescriptors lets this process, and what it starts, have as many open files as the
// system allows, up to what any test wants, and returns how many.
func raiseDescriptors(t *testing.T) int {
	t.Helper()
	const wanted = 131_072
	limit := unix.Rlimit{Cur: wanted, Max: wanted}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		return wanted
	}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("read the limit of descriptors: %v", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("allow %d descriptors: %v", limit.Cur, err)
	}
	return int(limit.Cur)
}
