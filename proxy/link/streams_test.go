package link

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestDataMayOpenAndEndAStream: yamux sends SYN and ACK in frames of their own; others
// need not.
func TestDataMayOpenAndEndAStream(t *testing.T) {
	for name, frames := range map[string][]byte{
		"one frame":         muxData(muxSYN|muxFIN, 3, "all of it"),
		"end with data":     slices.Concat(muxData(muxSYN, 3, "all"), muxData(muxFIN, 3, " of it")),
		"opened, then both": slices.Concat(muxSignal(muxSYN, 3), muxData(0, 3, "all"), muxData(muxFIN, 3, " of it")),
		"empty data frames": slices.Concat(muxData(muxSYN, 3, ""), muxData(0, 3, ""), muxData(0, 3, "all of it"), muxData(muxFIN, 3, "")),
		"ACK is no matter":  slices.Concat(muxSignal(muxSYN, 3), muxData(0, 3, "all of it"), muxSignal(muxFIN, 3)),
	} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, false)
			o.says(controlStream, frames)
			c := o.accept1(t)
			if got, err := io.ReadAll(c); string(got) != "all of it" || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			c.Close()
			synctest.Wait()
			if n := o.open(); n != 1 {
				t.Errorf("%s: %d carriers left", name, n)
			}
			if err := o.Err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			o.close()
		})
	}
}

// TestDataMayAcknowledgeAStream: the relay's first frame.
func TestDataMayAcknowledgeAStream(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, true)
		synctest.Wait()
		o.says(muxData(muxACK, 1, string(wire.Append(nil, &wire.Beat{Seq: 1}))))
		for id := uint32(3); id < 3+2*(backlog+10); id += 2 { // as many as may wait for an ACK, and more
			c, err := o.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			o.says(muxData(muxACK|muxFIN, id, "hello"))
			if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
				t.Fatalf("stream %d: %q, %v", id, got, err)
			}
			c.Close()
			_, _ = o.peer.Read(make([]byte, 1<<20))
		}
		synctest.Wait()
		if n := o.open(); n != 1 {
			t.Errorf("%d carriers left", n)
		}
		o.close()
	})
}

// TestControlMessagesMayBeCutAnywhere: and joined.
func TestControlMessagesMayBeCutAnywhere(t *testing.T) {
	unknown := wire.AppendHeader(nil, wire.Header{Type: 0x99, Length: 300})
	messages := slices.Concat(
		wire.Append(nil, &wire.Beat{Seq: 7}),
		append(unknown, make([]byte, 300)...),
		wire.Append(nil, &wire.SlowDown{Interval: time.Second}),
		wire.Append(nil, &wire.Receipt{Bytes: 1}),
		wire.Append(nil, &wire.GoAway{After: time.Minute, Reason: "because"}),
	)
	cuts := [][]int{nil, {}} // whole, and every byte alone
	for i := range messages {
		cuts[1] = append(cuts[1], i)
		if i < 20 || i > len(messages)-60 || i%37 == 0 {
			cuts = append(cuts, []int{i})
		}
	}
	simnet.Bubble(t, func(t *testing.T) {
		for _, cut := range cuts {
			var beats []uint64
			var reasons []string
			slowed := 0
			cfg := Config{Trace: &Trace{
				PeerBeat: func(seq uint64) { beats = append(beats, seq) },
				SlowDown: func(time.Duration) { slowed++ },
				GoAway:   func(after time.Duration, reason string) { reasons = append(reasons, after.String()+" "+reason) },
			}}
			o := newLone(t, simnet.Line{}, cfg, false)
			o.says(controlStream)
			from := 0
			for _, to := range append(cut, len(messages)) {
				if to > from {
					o.says(muxData(0, 1, string(messages[from:to])))
				}
				from = to
			}
			if !slices.Equal(beats, []uint64{7}) || !slices.Equal(reasons, []string{"1m0s because"}) || slowed != 1 {
				t.Errorf("cut at %v: beats %v, slowed %d, %q", cut, beats, slowed, reasons)
			}
			if err := o.Err(); err != nil || o.partial != nil {
				t.Errorf("cut at %v: %v, %d bytes kept", cut, err, len(o.partial))
			}
			o.close()
		}
	})
}

func TestAResetEndsOneCarrier(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 3), muxSignal(muxSYN, 5))
		reset, other := o.accept1(t), o.accept1(t)
		read, wrote := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := reset.Read(make([]byte, 1))
			read <- err
		}()
		go func() {
			_, err := reset.Write(make([]byte, 2*muxWindow)) // more than may be sent
			wrote <- err
		}()
		synctest.Wait()
		o.says(muxSignal(muxRST, 3), muxData(0, 3, "late"), muxData(0, 5, "hello"))
		if err := <-read; !errors.Is(err, yamux.ErrConnectionReset) {
			t.Errorf("read: %v", err)
		}
		if err := <-wrote; !errors.Is(err, yamux.ErrConnectionReset) {
			t.Errorf("write: %v", err)
		}
		if n := o.open(); n != 2 {
			t.Errorf("%d carriers left", n)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(other, got); string(got) != "hello" || err != nil {
			t.Errorf("the other one: %q, %v", got, err)
		}
		if _, err := other.Write(got); err != nil {
			t.Errorf("the other one: %v", err)
		}
		if err := reset.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := o.Err(); err != nil {
			t.Error(err)
		}
		if n := held(&o.unread); n != 0 {
			t.Errorf("%d bytes counted as unread", n)
		}
		o.close()
	})
}

// TestWhatNobodyWillReadIsNotCounted: a stream that was reset before anybody had it takes
// nothing of what may be unread.
func TestWhatNobodyWillReadIsNotCounted(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 1001)) // keeps accept waiting
		for i := range uint32(backlog) {
			id := 3 + 2*i
			o.says(slices.Concat(muxSignal(muxSYN, id), muxData(0, id, strings.Repeat("x", maxChunk)), muxSignal(muxRST, id)))
		}
		if n := held(&o.unread); n != 0 {
			t.Errorf("%d bytes counted as unread", n)
		}
		o.accept1(t).Close()
		for range backlog {
			c := o.accept1(t)
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrConnectionReset) {
				t.Errorf("read: %v", err)
			}
			c.Close()
		}
		o.close()
	})
}

// TestStreamsThatAreRefusedAreNotCounted: yamux resets a stream that finds no room to
// wait for Accept, whatever has come with it.
func TestStreamsThatAreRefusedAreNotCounted(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream)
		const more = 100
		for i := range uint32(backlog + more) {
			p := muxData(muxSYN, 3+2*i, "hello")
			o.says(p)
		}
		size := held(&o.unread)
		if n := o.open(); n < backlog || n > backlog+10 {
			t.Errorf("%d carriers of streams", n)
		}
		if most := (backlog + 10) * (5 + parcelCost); size > most {
			t.Errorf("%d bytes counted as unread, want at most %d", size, most)
		}
		o.close()
	})
}

// TestAFloodOfStreamsLeavesNothing: opened and reset, or ended by both, at once.
func TestAFloodOfStreamsLeavesNothing(t *testing.T) {
	for name, frames := range map[string]func(id uint32) []byte{
		"reset":           func(id uint32) []byte { return slices.Concat(muxSignal(muxSYN, id), muxSignal(muxRST, id)) },
		"one frame":       func(id uint32) []byte { return muxSignal(muxSYN|muxRST, id) },
		"data, reset":     func(id uint32) []byte { return slices.Concat(muxData(muxSYN, id, "hello"), muxSignal(muxRST, id)) },
		"reset with data": func(id uint32) []byte { return muxData(muxSYN|muxRST, id, "hello") },
		"ended":           func(id uint32) []byte { return muxData(muxSYN|muxFIN, id, "hello") },
		"the same id": func(uint32) []byte {
			return slices.Concat(muxData(muxSYN, 3, "hello"), muxSignal(muxRST, 3))
		},
	} {
		simnet.Bubble(t, func(t *testing.T) {
			cfg := quiet
			cfg.MaxStreams = 300
			var readers sync.WaitGroup
			cfg.Accepted = func(c io.ReadWriteCloser) {
				readers.Go(func() {
					defer c.Close()
					_, _ = io.Copy(io.Discard, c)
				})
			}
			before := runtime.NumGoroutine()
			o := newLone(t, simnet.Line{}, cfg, false)
			go func() { _, _ = io.Copy(io.Discard, o.peer) }()
			o.says(controlStream)
			idle := runtime.NumGoroutine()
			for id := uint32(3); id < 20_000; {
				var flood []byte
				for range 100 {
					flood = append(flood, frames(id)...)
					id += 2
				}
				o.says(flood)
			}
			readers.Wait()
			synctest.Wait()
			if err := o.Err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if n := o.open(); n != 1 {
				t.Errorf("%s: %d carriers left", name, n)
			}
			if n := o.mux.NumStreams(); n != 1 {
				t.Errorf("%s: %d streams of yamux left", name, n)
			}
			if n := held(&o.unread); n != 0 {
				t.Errorf("%s: %d bytes counted as unread", name, n)
			}
			if n := simnet.Goroutines(idle); n > idle {
				t.Errorf("%s: %d goroutines, %d before, %d before the link", name, n, idle, before)
			}
			o.close()
		})
	}
}

// TestAFloodFromAPeerThatDoesNotReadEndsTheLink: every stream costs an answer.
func TestAFloodFromAPeerThatDoesNotReadEndsTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Accepted = func(c io.ReadWriteCloser) { c.Close() }
		o := newLone(t, simnet.Line{Buffer: 4 << 10}, cfg, false)
		o.says(controlStream)
		for id := uint32(3); id < 200_000 && o.Err() == nil; id += 2 {
			o.says(muxSignal(muxSYN|muxFIN, id))
			o.mu.Lock()
			if n := len(o.queue.signals); n > maxSignals*muxHeader {
				t.Errorf("%d bytes of signals wait", n)
			}
			o.mu.Unlock()
		}
		if o.Err() == nil {
			t.Error("still alive")
		}
		if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
			t.Errorf("%v", lost)
		}
	})
}

func TestDataForUnknownStreamsIsDropped(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 3))
		c := o.accept1(t)
		for _, id := range []uint32{0, 2, 5, math.MaxUint32} {
			for _, flags := range []uint16{0, muxACK, muxFIN, muxRST} {
				o.says(muxData(flags, id, strings.Repeat("x", 5000)), muxFrame(muxTypeWindow, flags, id, 100, ""))
			}
		}
		o.says(muxData(muxFIN, 3, "hello"))
		if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if n := held(&o.unread); n != 0 {
			t.Errorf("%d bytes counted as unread", n)
		}
		if n := o.open(); n != 2 {
			t.Errorf("%d carriers", n)
		}
		o.close()
	})
}

// TestAnIDUsedAgainIsAnotherCarrier: two that wait for Accept are never one.
func TestAnIDUsedAgainIsAnotherCarrier(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 99), // keeps accept busy
			muxSignal(muxSYN, 3), muxSignal(muxRST, 3), muxSignal(muxSYN, 3), muxData(0, 3, "hello"))
		o.accept1(t)
		first, second := o.accept1(t), o.accept1(t)
		if first == second {
			t.Fatal("the same carrier was accepted twice")
		}
		first.Close()
		second.Close()
		o.close()
	})
}

// TestCloseComesAfterAllThatWasWritten, with many at a time and frames that leave
// together.
func TestCloseComesAfterAllThatWasWritten(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{Rate: 1 << 20, Delay: 10 * time.Millisecond, Buffer: 16 << 10}, Config{Receipts: true}, Config{Receipts: true})
		var wg sync.WaitGroup
		for i := range 100 {
			a, b := p.carriers(t)
			data := random(i * i)
			wg.Go(func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+i*7)
					if _, err := a.Write(rest[:n]); err != nil {
						t.Errorf("carrier %d: %v", i, err)
					}
					rest = rest[n:]
				}
				a.Close()
			})
			wg.Go(func() {
				if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, data) {
					t.Errorf("carrier %d: %d bytes of %d, %v", i, len(got), len(data), err)
				}
				b.Close()
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if a, b := p.proxy.open(), p.relay.open(); a != 1 || b != 1 {
			t.Errorf("%d and %d carriers left", a, b)
		}
		p.close()
	})
}

// TestAPeerThatNeverClosesIsReset, and its stream is forgotten; what it still sends is
// taken for as long as its window lasts.
func TestAPeerThatNeverClosesIsReset(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 3), muxData(0, 3, "not read"))
		o.accept1(t).Close()
		o.says(muxData(0, 3, strings.Repeat("x", maxChunk)))
		if n := held(&o.unread); n != 0 {
			t.Errorf("%d bytes counted as unread", n)
		}
		time.Sleep(closeTimeout + time.Second)
		synctest.Wait()
		if n := o.open(); n != 1 {
			t.Errorf("%d carriers left", n)
		}
		o.says(muxData(0, 3, "late"))
		if err := o.Err(); err != nil {
			t.Error(err)
		}
		o.close()
	})
}

// TestBeatsAreAnsweredBeforeAllThatWaits: as soon as the peer reads again, before all data.
func TestBeatsAreAnsweredBeforeAllThatWaits(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		o := newLone(t, simnet.Line{Buffer: 8 << 10}, quiet, false)
		o.says(controlStream, muxSignal(muxSYN, 3), muxFrame(muxTypeWindow, 0, 3, 1<<20, ""))
		c := o.accept1(t)
		go c.Write(make([]byte, 1<<20))
		synctest.Wait()
		for seq := range uint64(5) {
			o.says(muxData(0, 1, string(wire.Append(nil, &wire.Beat{Seq: seq + 1}))))
		}
		answer := wire.Append(nil, &wire.BeatAck{Seq: 5})
		ahead, h := 0, header{}
		for {
			if _, err := io.ReadFull(o.peer, h[:]); err != nil {
				t.Fatal(err)
			}
			if h.kind() != muxTypeData {
				continue
			}
			body := make([]byte, h.length())
			if _, err := io.ReadFull(o.peer, body); err != nil {
				t.Fatal(err)
			}
			if h.stream() == 1 {
				if !bytes.HasPrefix(body, answer) {
					t.Errorf("%x", body)
				}
				break
			}
			ahead += len(body)
		}
		if most := 16<<10 + maxChunk; ahead > most { // the socket's buffers, and the chunk under way
			t.Errorf("the answer came behind %d bytes", ahead)
		}
		go func() { _, _ = io.Copy(io.Discard, o.peer) }()
		c.Close()
		o.close()
	})
}
