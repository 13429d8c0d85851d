package keyauth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// program writes a shell script and returns its path.
func program(t *testing.T, text string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("not on Windows")
	}
	path := filepath.Join(privateDir(t), "keys")
	writeFile(t, path, "#!/bin/sh\n"+text+"\n", 0o755)
	return path
}

// reports keeps the problems of a command.
type reports struct{ c chan string }

func (r reports) add(p Problem) {
	select {
	case r.c <- p.String():
	default:
	}
}

func (r reports) all() (s []string) {
	for {
		select {
		case p := <-r.c:
			s = append(s, p)
		default:
			return s
		}
	}
}

func newCommand(t *testing.T, argv ...string) (*Command, reports) {
	t.Helper()
	r := reports{make(chan string, 100)}
	c, err := NewCommand(argv, "", r.add)
	must(t, err)
	t.Cleanup(c.Close)
	return c, r
}

func TestCommandIsToldTheKeyWithoutAShell(t *testing.T) {
	key := parsed(t, edLine)
	path := program(t, `
[ $# = 4 ] && [ "$1" = first ] && [ "$2" = '$(touch x); %' ] && [ -z "$SSH_AUTH_SOCK" ] || exit 9
[ "$3 $4" = "`+edLine+` `+ssh.FingerprintSHA256(key)+`" ] && echo 'permitopen="a:1" `+edLine+` from the fleet'
echo '`+edLine2+`'`)
	t.Setenv("SSH_AUTH_SOCK", "/secret")
	c, r := newCommand(t, path, "first", "$(touch x); %%", "%t %k", "%f")
	g, ok := c.Authorize(key, addr)
	if !ok || g.File != path || g.Line != 1 || g.Comment != "from the fleet" || len(g.PermitOpen) != 1 {
		t.Errorf("%+v, %v, %q", g, ok, r.all())
	}
	// It is asked about one key, and what it says of others counts for nothing.
	if _, ok := c.Authorize(parsed(t, edLine2), addr); !ok {
		t.Error("the other key, asked about by itself")
	}
	if _, ok := c.Authorize(public(t, generate(t, "ed25519")), addr); ok {
		t.Error("a key that it does not name")
	}
}

func TestCommandThatFailsAuthorizesNobody(t *testing.T) {
	key := parsed(t, edLine)
	for name, c := range map[string]struct{ text, want string }{
		"status":   {"echo '" + edLine + "'; echo 'no\nserver\033[2J' >&2; exit 3", "exit status 3 (no server [2J)"},
		"signal":   {"echo '" + edLine + "'; kill -9 $$", "signal: killed"},
		"too long": {"yes '" + edLine + "'", "prints more than 1048576 bytes"},
		"bad line": {"echo 'colour=\"x\" " + edLine + "'", `unknown option "colour"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, r := newCommand(t, program(t, c.text))
			if _, ok := cmd.Authorize(key, addr); ok {
				t.Error("authorized")
			}
			if got := r.all(); len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("reported %q, want %q", got, c.want)
			}
		})
	}
}

func TestCommandThatOthersMayChangeIsNotRun(t *testing.T) {
	path := program(t, "echo '"+edLine+"'")
	key := parsed(t, edLine)
	dir := filepath.Dir(path)
	for _, c := range []struct {
		name string
		mode os.FileMode
		want string
	}{
		{path, 0o775, path + " may be written by others (mode 0775): chmod go-w " + path},
		{path, 0o757, path + " may be written by others (mode 0757): chmod go-w " + path},
		{path, 0o755, ""},
		{dir, 0o770, dir + " may be written by others (mode 0770): chmod go-w " + dir},
		{dir, 0o700, ""},
	} {
		must(t, os.Chmod(c.name, c.mode))
		cmd, r := newCommand(t, path)
		if _, ok := cmd.Authorize(key, addr); ok != (c.want == "") {
			t.Errorf("%s %o: %v", c.name, c.mode, ok)
		}
		if got := strings.Join(r.all(), "; "); c.want != "" && !strings.HasSuffix(got, ": authorizes nobody: "+c.want) {
			t.Errorf("reported %q, want %q", got, c.want)
		}
	}
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 1, 1))
		if err := CheckProgram(path); err == nil || !strings.Contains(err.Error(), "belongs to user 1") {
			t.Error(err)
		}
	}
}

func TestCloseEndsARunThatHangs(t *testing.T) {
	started := filepath.Join(privateDir(t), "started")
	c, _ := newCommand(t, program(t, "touch "+started+"; sleep 60 & sleep 60"))
	done := make(chan bool)
	go func() {
		_, ok := c.Authorize(parsed(t, edLine), addr)
		done <- ok
	}()
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		runtime.Gosched()
	}
	start := time.Now()
	c.Close()
	if <-done {
		t.Error("authorized")
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
	if _, ok := c.Authorize(parsed(t, edLine2), addr); ok {
		t.Error("authorized after Close")
	}
}

func TestCommandLinesThatCannotBe(t *testing.T) {
	for _, argv := range [][]string{nil, {""}, {"keys"}, {"./keys"}, {"/keys", "%"}, {"/keys", "%u"}, {"/keys", "%%%"}} {
		if c, err := NewCommand(argv, "", nil); err == nil {
			t.Errorf("%q: %v", argv, c)
		}
	}
	must(t, CheckCommand([]string{"/keys", "%k%t%f%%", "100%%"}))
}

// scripted is a Command whose program is a function.
func scripted(t *testing.T, run func(argv []string) (string, error)) (c *Command, runs *atomic.Int32) {
	t.Helper()
	c, err := NewCommand([]string{"/keys", "%f"}, "", nil)
	must(t, err)
	runs = new(atomic.Int32)
	c.run = func(_ context.Context, argv []string) ([]byte, error) {
		runs.Add(1)
		time.Sleep(time.Second)
		text, err := run(argv)
		return []byte(text), err
	}
	return c, runs
}

func TestCommandThatIsSlowAuthorizesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := newCommand(t, "/keys")
		defer c.Close()
		c.run = func(ctx context.Context, _ []string) ([]byte, error) {
			<-ctx.Done()
			return []byte(edLine), nil
		}
		start := time.Now()
		if _, ok := c.Authorize(parsed(t, edLine), addr); ok {
			t.Error("authorized")
		}
		if got := r.all(); time.Since(start) != commandTime || !slices.Equal(got, []string{"/keys: authorizes nobody: no answer within 5s"}) {
			t.Errorf("after %v reported %q", time.Since(start), got)
		}
	})
}

func TestAnswersCountForTenSecondsAndOneRunServesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := scripted(t, func([]string) (string, error) { return edLine, nil })
		defer c.Close()
		key := parsed(t, edLine)
		for range 20 {
			go c.Authorize(key, addr)
		}
		if _, ok := c.Authorize(key, addr); !ok {
			t.Error("not authorized")
		}
		time.Sleep(9 * time.Second)
		c.Authorize(key, addr)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
		time.Sleep(time.Second)
		c.Authorize(key, addr)
		if n := runs.Load(); n != 2 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestRunsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		c, runs := scripted(t, func([]string) (string, error) { return "", nil })
		defer c.Close()
		run := c.run
		c.run = func(ctx context.Context, argv []string) ([]byte, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return run(ctx, argv)
		}
		for range 200 {
			go c.Authorize(public(t, generate(t, "ed25519")), addr)
		}
		start := time.Now()
		c.Authorize(parsed(t, edLine), addr)
		if d := time.Since(start); d > commandTime+time.Second {
			t.Errorf("waited for %v", d)
		}
		synctest.Wait()
		if most.Load() > commandRuns || runs.Load() > 6*commandRuns {
			t.Errorf("%d runs at a time, %d in all", most.Load(), runs.Load())
		}
	})
}

func TestWhoIsInIsAskedAboutEveryMinuteAndACommandThatFailsIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text atomic.Value
		var failure atomic.Bool
		text.Store(edLine)
		c, runs := scripted(t, func([]string) (string, error) {
			if failure.Load() {
				return "", errors.New("exit status 1")
			}
			return text.Load().(string), nil
		})
		defer c.Close()
		key := parsed(t, edLine)
		if _, ok := c.Recheck(key, addr); ok {
			t.Error("known before it was asked about")
		}
		c.Authorize(key, addr)
		// stays rechecks for d and tells how long the key was authorized.
		stays := func(d time.Duration) time.Duration {
			for start := time.Now(); time.Since(start) < d; time.Sleep(10 * time.Second) {
				if _, ok := c.Recheck(key, addr); !ok {
					return time.Since(start)
				}
			}
			return d
		}
		if d := stays(time.Hour); d != time.Hour || runs.Load() < 55 || runs.Load() > 66 {
			t.Errorf("authorized for %v, %d runs", d, runs.Load())
		}
		failure.Store(true)
		if d := stays(3 * time.Minute); d != 3*time.Minute {
			t.Errorf("ended after %v", d)
		}
		c.Authorize(key, addr)
		if _, ok := c.Authorize(key, addr); ok {
			t.Error("a newcomer is let in")
		}
		failure.Store(false)
		if d := stays(time.Hour); d != time.Hour {
			t.Errorf("ended after %v", d)
		}
		failure.Store(true)
		if d := stays(time.Hour); d < commandGrace || d > commandGrace+2*time.Minute {
			t.Errorf("ended %v after it began to fail", d)
		}

		failure.Store(false)
		time.Sleep(commandCache)
		c.Authorize(key, addr)
		v := c.Version()
		text.Store("")
		if d := stays(time.Hour); d > 80*time.Second || c.Version() == v {
			t.Errorf("ended after %v, version %d then %d", d, v, c.Version())
		}
		// What nobody asks for is not known any more.
		text.Store(edLine)
		time.Sleep(time.Minute)
		if _, ok := c.Authorize(key, addr); !ok {
			t.Error("not authorized again")
		}
		time.Sleep(commandForgets + time.Second)
		if _, ok := c.Recheck(key, addr); ok {
			t.Error("an old answer counts")
		}
	})
}

func TestTheFileIsAskedFirstAndAStrangerCostsFewRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := scripted(t, func(argv []string) (string, error) {
			if argv[1] == ssh.FingerprintSHA256(parsed(t, edLine2)) {
				return edLine2, nil
			}
			return edLine, nil
		})
		defer c.Close()
		l := KeyLists{File: fileOf(t, "", `command="true" `+edLine), Command: c}
		if _, ok := l.Authorize(parsed(t, edLine), addr); ok || runs.Load() != 0 {
			t.Errorf("what the file refuses is let in, or asked about: %v, %d runs", ok, runs.Load())
		}
		if _, ok := l.Authorize(parsed(t, edLine2), addr); !ok {
			t.Error("not authorized by the command")
		}
		if _, ok := l.Recheck(parsed(t, edLine2), addr); !ok {
			t.Error("not authorized at a recheck")
		}

		runs.Store(0)
		offer := new(wire.Offer)
		for range wire.MaxOffers - 1 {
			offer.Keys = append(offer.Keys, public(t, generate(t, "ed25519")).Marshal())
		}
		v := &Verifier{Authorizer: l}
		if _, key := v.pick(offer, addr); key != nil || runs.Load() != maxLookups {
			t.Errorf("picked %v after %d runs", key, runs.Load())
		}
		own := public(t, generate(t, "ed25519"))
		v.Authorizer = KeyLists{File: fileOf(t, "", line(own)), Command: c}
		runs.Store(0)
		offer.Keys = append(slices.Clone(offer.Keys), own.Marshal())
		if i, key := v.pick(offer, addr); key == nil || i != len(offer.Keys)-1 || runs.Load() != 0 {
			t.Errorf("picked %d after %d runs", i, runs.Load())
		}
	})
}

func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil)
		defer c.Close()
		c.run = func(context.Context, []string) ([]byte, error) { return nil, nil }
		for range maxAnswers {
			c.answers[strconv.Itoa(len(c.answers))] = &answer{asked: time.Now(), wanted: time.Now()}
		}
		c.Authorize(parsed(t, edLine), addr)
		if n := len(c.answers); n != maxAnswers {
			t.Errorf("%d answers", n)
		}
		time.Sleep(commandCache + time.Second)
		c.Authorize(parsed(t, edLine), addr)
		if n := len(c.answers); n != 1 {
			t.Errorf("%d answers, all but one of strangers that have left", n)
		}
	})
}
