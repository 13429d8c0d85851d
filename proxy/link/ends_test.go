package link

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAFailedWriteEndsALinkThatReadsNothing: while nobody reads what has arrived, the
// connection's end is not seen.
func TestAFailedWriteEndsALinkThatReadsNothing(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := Config{Heartbeat: heartbeat.Policy{Interval: time.Second, CountMax: heartbeat.Off}, Window: 2 * maxUnread}
		o := newLone(t, simnet.Line{}, cfg, false)
		o.says(controlStream, muxSignal(muxSYN, 3))
		o.accept1(t)
		go func() {
			for {
				if _, err := o.peer.Write(muxData(0, 3, strings.Repeat("x", maxChunk))); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if n := held(&o.unread); n < maxUnread-maxChunk {
			t.Fatalf("only %d bytes unread", n)
		}
		o.peer.Cut()
		select {
		case <-o.Done():
		case <-time.After(time.Minute):
			t.Error("the link lives on")
			o.Close(Network)
		}
		if lost := o.close(); lost.Reason != Reset {
			t.Errorf("%v", lost)
		}
	})
}

// TestYamuxKnowsWhyItEnds: not a write that waits just then, and fails upon it.
func TestYamuxKnowsWhyItEnds(t *testing.T) {
	for range 20 {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{Buffer: 1 << 10}, quiet, false)
			o.says(controlStream, muxSignal(muxSYN|muxFIN, 3))
			c := o.accept1(t)
			go c.Write(make([]byte, muxWindow)) // nobody reads it
			synctest.Wait()
			o.says(muxSignal(muxFIN, 3)) // yamux's own violation
			if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
				t.Errorf("%v", lost)
			}
		})
	}
}

// TestALinkEndsHoweverItsConnectionDoes: both who read and who write, and Run.
func TestALinkEndsHoweverItsConnectionDoes(t *testing.T) {
	for name, end := range map[string]struct {
		do     func(o *lone)
		reason Reason
	}{
		"closed":             {func(o *lone) { o.peer.CloseWrite() }, EOF},
		"in a header":        {func(o *lone) { o.says(muxData(0, 3, "x")[:5]); o.peer.CloseWrite() }, EOF},
		"in a body":          {func(o *lone) { o.says(muxData(0, 3, "hello")[:14]); o.peer.CloseWrite() }, EOF},
		"in a large body":    {func(o *lone) { o.says(muxFrame(0, 0, 3, maxChunk, "x")); o.peer.CloseWrite() }, EOF},
		"cut":                {func(o *lone) { o.peer.Cut() }, Reset},
		"cut in a body":      {func(o *lone) { o.says(muxFrame(0, 0, 3, maxChunk, "x")); o.peer.Cut() }, Reset},
		"violation":          {func(o *lone) { o.says(muxSignal(muxSYN, 3)) }, Protocol},
		"yamux's violation":  {func(o *lone) { o.says(muxSignal(0, 3), muxSignal(muxFIN, 3), muxSignal(muxFIN, 3)) }, Protocol},
		"replaced":           {func(o *lone) { o.Close(MaxAge) }, MaxAge},
		"closed from within": {func(o *lone) { o.meter.Close() }, Network},
	} {
		for _, busy := range []bool{false, true} { // a Write waits for the connection
			simnet.Bubble(t, func(t *testing.T) {
				o := newLone(t, simnet.Line{Buffer: 8 << 10}, quiet, false)
				o.says(controlStream, muxSignal(muxSYN, 3), muxFrame(muxTypeWindow, 0, 3, 1<<20, ""))
				c := o.accept1(t)
				read, wrote := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, c)
					read <- err
				}()
				if busy {
					go func() {
						_, err := c.Write(make([]byte, 1<<20))
						wrote <- err
					}()
				}
				synctest.Wait()
				end.do(o)
				o.runs.Wait()
				if err := <-read; !errors.Is(err, o.lost) && !strings.Contains(name, "yamux") {
					t.Errorf("%s, busy %v: read: %v", name, busy, err)
				}
				if busy {
					if err := <-wrote; !errors.Is(err, o.lost) {
						t.Errorf("%s, busy: write: %v", name, err)
					}
				}
				if o.lost.Reason != end.reason {
					t.Errorf("%s, busy %v: %v", name, busy, o.lost)
				}
				c.Close()
				if n := held(&o.unread); n != 0 {
					t.Errorf("%s, busy %v: %d bytes counted as unread", name, busy, n)
				}
				o.peer.Close()
			})
		}
	}
}
