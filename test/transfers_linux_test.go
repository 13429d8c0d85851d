package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	cutRate = "4mbit"   // of the target while a link is cut again and again
	perCut  = 250_000   // bytes that arrive before each cut: half a second's
	mostPer = 1_000_000 // and at most: so much time a cut has, on a busy machine
	uncut   = 9_000_000 // bytes after the last: more than buffers hold
)

// transfer is a program that copies a file of the lab between client and target.
type transfer struct {
	name  string
	tools []string
	// prepare makes what the program needs, and returns its command line. It copies
	// sent to somewhere below the folder to.
	prepare func(l *lab, sent, to string, upwards bool) []string
	// arrived returns the path of the copy.
	arrived func(l *lab, to string) string
}

func below(name string) func(*lab, string) string {
	return func(_ *lab, to string) string { return filepath.Join(to, name) }
}

// transfers are the programs. The ssh of each reads transfer_config, which is the
// lab's ssh_config with a ProxyCommand.
var transfers = []transfer{
	{
		name: "scp", arrived: below("sent"),
		prepare: func(l *lab, sent, to string, upwards bool) []string {
			from, to := remoteOf(sent, to, upwards)
			return []string{"scp", "-q", "-F", l.path("transfer_config"), from, to}
		},
	},
	{
		name: "sftp", arrived: below("sent"),
		prepare: func(l *lab, sent, to string, upwards bool) []string {
			verb := "get"
			if upwards {
				verb = "put"
			}
			batch := l.write("batch", verb+" "+sent+" "+to+"/sent\n")
			return []string{"sftp", "-q", "-F", l.path("transfer_config"), "-b", batch, targetIP}
		},
	},
	{
		name: "rsync", tools: []string{"rsync"}, arrived: below("sent"),
		prepare: func(l *lab, sent, to string, upwards bool) []string {
			from, to := remoteOf(sent, to, upwards)
			return []string{"rsync", "--whole-file", "-e", "ssh -F " + l.path("transfer_config"), from, to + "/"}
		},
	},
	{
		name: "git", tools: []string{"git"},
		prepare: func(l *lab, sent, to string, upwards bool) []string {
			l.makeRepository(sent)
			repository := filepath.Join(to, "repository")
			if !upwards {
				return []string{"git", "clone", "-q", "ssh://" + targetIP + l.path("repository"), repository}
			}
			l.git("init", "-q", "--bare", "-b", "main", repository)
			l.git("-C", repository, "config", "receive.unpackLimit", "1") // show it growing
			return []string{"git", "-C", l.path("repository"), "push", "-q", "ssh://" + targetIP + repository, "main"}
		},
		arrived: func(l *lab, to string) string {
			// A push leaves no file, so that both ways are checked out anew.
			l.git("clone", "-q", filepath.Join(to, "repository"), filepath.Join(to, "checkout"))
			return filepath.Join(to, "checkout", "sent")
		},
	},
}

// remoteOf makes a copy's end a remote one: where it leads to, or where it comes from.
func remoteOf(from, to string, upwards bool) (string, string) {
	if upwards {
		return from, targetIP + ":" + to
	}
	return targetIP + ":" + from, to
}

// makeRepository makes a repository that holds a file.
func (l *lab) makeRepository(file string) {
	l.t.Helper()
	l.git("init", "-q", "-b", "main", l.path("repository"))
	l.check(os.Rename(file, filepath.Join(l.path("repository"), "sent")))
	l.git("-C", l.path("repository"), "add", "sent")
	l.git("-C", l.path("repository"), "commit", "-q", "-m", "one large file")
}

// git runs git beside the lab, to its end.
func (l *lab) git(args ...string) {
	l.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "core.compression=0"}, args...)...)
	cmd.Env = append(os.Environ(), gitEnv(l)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("lab: git %q: %v\n%s", args, err, out)
	}
}

func gitEnv(l *lab) []string {
	return []string{
		"HOME=" + l.path("home"), "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com",
		"GIT_SSH_COMMAND=ssh -F " + l.path("transfer_config"),
	}
}

// grown returns how many bytes the files of a folder have together.
func grown(folder string) (bytes int64) {
	filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // files come and go
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// What people copy by ssh arrives whole, however often the link is cut, and no
// program notices. Meanwhile, on another session, each cut is a pause below a second.
func TestTransfersOutliveCutsOfTheirLinks(t *testing.T) {
	t.Parallel()
	needTools(t, "tc")
	for _, tr := range transfers {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			needTools(t, tr.tools...)
			for name, upwards := range map[string]bool{"up": true, "down": false} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					transferThroughCuts(t, tr, upwards, pick(10, 50))
				})
			}
		})
	}
}

func transferThroughCuts(t *testing.T, tr transfer, upwards bool, cuts int) {
	t.Helper()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	l.serveEchoes(t)
	// The target is slow, and not the link: its packets shall not be lost in a queue.
	pace := func(verb string, how ...string) {
		for r, device := range map[role]string{relay: "eth1", target: "eth0"} {
			l.check(runIn(l.ns(r), "", "tc", append([]string{"qdisc", verb, "dev", device, "root"}, how...)...))
		}
	}
	pace("add", "tbf", "rate", cutRate, "burst", "64kb", "latency", "50ms")
	to := l.path("to")
	l.check(os.Mkdir(to, 0o700))
	want := l.randomFile(t, "sent", int64(cuts)*mostPer+uncut)
	base := l.read(t, "ssh_config")
	l.write("transfer_config", base+"\t"+strings.Replace(strings.TrimPrefix(l.through(t, nil), "-o"), "=", " ", 1)+"\n")
	command := tr.prepare(l, l.path("sent"), to, upwards)

	far := l.numbers(t, relay, relayAdmin)
	probe := l.commandEcho(t, "the other session", nil, chat)
	flows(patience, probe)
	probe.pause()
	begin := grown(to)
	p := l.startWith(t, client, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, gitEnv(l)...) }, command[0], command[1:]...)
	var longest time.Duration
	for cut := range cuts {
		for grown(to)-begin < int64(cut+1)*perCut {
			if p.endsWithin(5 * time.Millisecond) {
				t.Fatalf("%s ended with %d after %d cuts: %s", tr.name, p.status, cut, p.stderr)
			}
		}
		l.expectLinks(t, relayPort, 2) // a link may just be replaced
		before := far.read("sshka_sessions_resumed_total")
		l.cutLinks(t)
		// Both were cut, and both go on.
		far.expect(atLeast(before+2), "sshka_sessions_resumed_total")
		flows(settleTime, probe)
		pause := probe.pause()
		longest = max(longest, pause)
		if pause > lanPause {
			t.Errorf("cut %d: nothing came back for %s, want at most %s", cut+1, pause, lanPause)
		}
	}
	pace("del")
	p.waitWithin(bulkPatience, 0)
	l.quiet(t, p)
	if got := sum(t, tr.arrived(l, to)); got != want {
		t.Error("the file that arrived differs")
	}
	probe.finish(settleTime)
	t.Logf("%d cuts, the longest pause was %s", cuts, longest.Round(time.Millisecond))
}
