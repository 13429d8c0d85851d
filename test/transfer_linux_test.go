package test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// bulkPatience bounds the copy of 200 MB by two busy processors.
const bulkPatience = 2 * time.Minute

func TestLargeFilesArriveIntactBothWays(t *testing.T) {
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	const size = 200_000_000
	want := l.randomFile(t, "sent", size)
	through := l.through(t, nil)
	for _, tt := range []struct{ way, from, to, file string }{
		{"up", l.path("sent"), targetIP + ":" + l.path("up"), "up"},
		{"down", targetIP + ":" + l.path("up"), l.path("down"), "down"},
	} {
		start := time.Now()
		p := l.start(t, client, "scp", "-q", "-F", l.path("ssh_config"), through, tt.from, tt.to)
		p.waitWithin(bulkPatience, 0)
		took := time.Since(start)
		if got := sum(t, l.path(tt.file)); got != want {
			t.Fatalf("%s: the file that arrived differs", tt.way)
		}
		t.Logf("%s: %d MB in %s, %.0f MB/s", tt.way, size/1_000_000, took.Round(10*time.Millisecond), size/1e6/took.Seconds())
	}
}

func TestSFTPPutsAndGets(t *testing.T) {
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := l.randomFile(t, "sent", 3_000_001)
	batch := l.write("batch", fmt.Sprintf("put %s %s\nls -l %[2]s\nget %[2]s %s\nrm %[2]s\n", l.path("sent"), l.path("up"), l.path("down")))
	p := l.start(t, client, "sftp", "-q", "-F", l.path("ssh_config"), l.through(t, nil), "-b", batch, targetIP)
	p.wait(0)
	if got := sum(t, l.path("down")); got != want {
		t.Error("the file that came back differs")
	}
	if _, err := os.Stat(l.path("up")); !os.IsNotExist(err) {
		t.Errorf("rm: %v, want the file gone", err)
	}
}

// An end of input on one way leaves the other open until it has ended too.
func TestPipesEndOneWayAtATime(t *testing.T) {
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	const size = 20_000_003
	want := l.randomFile(t, "sent", size)
	through := l.through(t, nil)

	t.Run("the answer comes after the end of input", func(t *testing.T) {
		p := l.ssh(t, through, targetIP, "sha256sum; sleep 1; echo done")
		l.feed(t, p, "sent")
		p.waitWithin(bulkPatience, 0)
		if got := p.stdout.String(); got != want+"  -\ndone\n" {
			t.Errorf("got %q, want the sum %s and done", got, want)
		}
		l.quiet(t, p)
	})
	t.Run("output without input", func(t *testing.T) {
		p := l.ssh(t, through, "-n", targetIP, "cat "+l.path("sent"))
		p.waitWithin(bulkPatience, 0)
		if got := sumOf(p.stdout.String()); got != want {
			t.Errorf("%d bytes came that differ from the %d sent", len(p.stdout.String()), size)
		}
		l.quiet(t, p)
	})
	t.Run("there and back", func(t *testing.T) {
		p := l.ssh(t, through, targetIP, "cat")
		l.feed(t, p, "sent")
		p.waitWithin(bulkPatience, 0)
		if got := sumOf(p.stdout.String()); got != want {
			t.Errorf("%d bytes came back that differ from the %d sent", len(p.stdout.String()), size)
		}
		l.quiet(t, p)
	})
}

// feed writes a file of the lab to the process's stdin and ends it.
func (l *lab) feed(t *testing.T, p *process, name string) {
	t.Helper()
	f, err := os.Open(l.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(p.stdin, f); err != nil {
		t.Fatalf("feed %s: %v", p.name, err)
	}
	p.stdin.Close()
}

// randomFile makes a file that compression and repetition cannot flatter, and
// returns its sum.
func (l *lab) randomFile(t *testing.T, name string, size int64) string {
	t.Helper()
	f, err := os.Create(l.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	if _, err := io.Copy(io.MultiWriter(f, h), source); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sumOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}
