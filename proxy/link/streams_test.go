package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// muxGoAway is yamux's go away, which this end never sends of itself.
const muxGoAway = 3

// muxFrame is any frame of yamux's, as a peer might send it.
func muxFrame(kind uint8, flags uint16, stream uint32, length uint32, body string) []byte {
	b := append([]byte{0, kind}, byte(flags>>8), byte(flags))
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, body...)
}

// muxData is a data frame.
func muxData(flags uint16, stream uint32, body string) []byte {
	return muxFrame(muxTypeData, flags, stream, uint32(len(body)), body)
}

// muxSignal is a frame that says flags of a stream, and nothing else.
func muxSignal(flags uint16, stream uint32) []byte {
	return muxFrame(muxTypeWindow, flags, stream, 0, "")
}

// controlStream opens the control stream: the first frame of a proxy.
var controlStream = muxSignal(muxSYN, 1)

// lone is one end of a link, and in place of the other one a test that sends what it
// likes.
type lone struct {
	*Link

	peer *simnet.Conn
	runs sync.WaitGroup
	lost *LostError // once runs is over
}

// newLone is a relay's end unless client.
func newLone(t *testing.T, line simnet.Line, cfg Config, client bool) *lone {
	t.Helper()
	a, b := simnet.Pipe(line)
	m := NewMeter(a)
	end := Server
	if client {
		end = Client
	}
	l, err := end(m, m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	one := &lone{Link: l, peer: b}
	one.runs.Go(func() { errors.As(l.Run(t.Context()), &one.lost) })
	return one
}

// says lets the peer say frames, and the link take them.
func (o *lone) says(frames ...[]byte) {
	_, _ = o.peer.Write(slices.Concat(frames...)) // fails once the link has ended
	synctest.Wait()
}

// close ends the link, and returns why it has ended.
func (o *lone) close() *LostError {
	o.peer.Thaw()
	o.peer.Close()
	o.runs.Wait()
	return o.lost
}

// open returns how many carriers there are, the control stream's among them.
func (l *Link) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.carriers)
}

// accept1 returns the next carrier.
func (o *lone) accept1(t *testing.T) *carrier {
	t.Helper()
	c, err := o.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.(*carrier)
}

// plainYamux is yamux as others use it: windows of 256 KiB.
func plainYamux() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.EnableKeepAlive = false // pings are a violation
	cfg.LogOutput = io.Discard
	return cfg
}

// plain is a link's end whose peer is plain yamux, with a stream between them.
func plain(t *testing.T, cfg Config, client bool) (o *lone, ours io.ReadWriteCloser, mux *yamux.Session, theirs net.Conn) {
	t.Helper()
	// yamux holds a mutex while a frame's body arrives, and virtual time stands still for
	// whoever waits for one: so the line takes no time.
	o = newLone(t, simnet.Line{}, cfg, client)
	var err error
	if client {
		if mux, err = yamux.Server(o.peer, plainYamux()); err != nil {
			t.Fatal(err)
		}
		if _, err := mux.AcceptStream(); err != nil {
			t.Fatal(err)
		}
		if ours, err = o.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if theirs, err = mux.AcceptStream(); err != nil {
			t.Fatal(err)
		}
		return o, ours, mux, theirs
	}
	if mux, err = yamux.Client(o.peer, plainYamux()); err != nil {
		t.Fatal(err)
	}
	if _, err := mux.OpenStream(); err != nil {
		t.Fatal(err)
	}
	if theirs, err = mux.OpenStream(); err != nil {
		t.Fatal(err)
	}
	return o, o.accept1(t), mux, theirs
}

// slowly reads all of r, and rests often.
func slowly(r io.Reader) ([]byte, error) {
	var got []byte
	b := make([]byte, 50_000)
	for {
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return got, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestAPlainPeersSmallWindowIsHonoured: yamux ends the session when its window is not.
func TestAPlainPeersSmallWindowIsHonoured(t *testing.T) {
	for _, client := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			o, ours, mux, theirs := plain(t, quiet, client)
			data := random(3<<20 + 17)
			wrote := make(chan error, 1)
			go func() {
				_, err := ours.Write(data)
				wrote <- err
				ours.Close()
			}()
			time.Sleep(time.Minute)
			o.mu.Lock()
			if c := ours.(*carrier); c.window != 0 || len(c.pending) != len(data)-muxWindow {
				t.Errorf("client %v: window %d, %d bytes wait of %d", client, c.window, len(c.pending), len(data))
			}
			o.mu.Unlock()
			got, err := slowly(theirs)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %v: %d bytes of %d, %v", client, len(got), len(data), err)
			}
			if err := <-wrote; err != nil {
				t.Errorf("client %v: write: %v", client, err)
			}
			if err := o.Err(); err != nil || mux.IsClosed() {
				t.Errorf("client %v: %v", client, err)
			}
			mux.Close()
			o.close()
		})
	}
}

// TestASlowReaderGetsAllOfAPlainPeer: what is granted and what arrives agree to the byte,
// many windows long.
func TestASlowReaderGetsAllOfAPlainPeer(t *testing.T) {
	for _, client := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			cfg := quiet
			cfg.Window = muxWindow
			o, ours, mux, theirs := plain(t, cfg, client)
			data := random(5<<20 + 17)
			go func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+len(rest)%maxChunk)
					if _, err := theirs.Write(rest[:n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					rest = rest[n:]
				}
				theirs.Close()
			}()
			got, err := slowly(ours)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %v: %d bytes of %d, %v", client, len(got), len(data), err)
			}
			synctest.Wait()
			c := ours.(*carrier)
			o.mu.Lock()
			if sum := c.granted + c.owed + c.unread; sum != muxWindow {
				t.Errorf("client %v: granted %d, owed %d, read since %d: %d in all", client, c.granted, c.owed, c.unread, sum)
			}
			o.mu.Unlock()
			if n := held(&o.unread); n != 0 {
				t.Errorf("client %v: %d bytes counted as unread", client, n)
			}
			mux.Close()
			o.close()
		})
	}
}

// TestManyWindowsPassOneAfterTheOther: a byte lost in each grant would stop it.
func TestManyWindowsPassOneAfterTheOther(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		p := join(t, simnet.Line{}, cfg, cfg)
		a, b := p.carriers(t)
		const total = 400 * muxWindow
		go func() {
			for n, k := 0, 0; n < total; k++ {
				m := min(total-n, 1+k*7919%(3*muxWindow/2))
				if _, err := a.Write(make([]byte, m)); err != nil {
					t.Error(err)
					return
				}
				n += m
			}
			a.Close()
		}()
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, b, make([]byte, 40_001)); n != total || err != nil {
			t.Errorf("%d of %d bytes, %v", n, total, err)
		}
		p.close()
	})
}

func TestDataBeyondTheWindowEndsTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		o := newLone(t, simnet.Line{}, cfg, false)
		o.says(controlStream, muxSignal(muxSYN, 3))
		for range 8 {
			o.says(muxData(0, 3, strings.Repeat("x", muxWindow/8)))
		}
		if err := o.Err(); err != nil {
			t.Errorf("within the window: %v", err)
		}
		o.says(muxData(0, 3, "x"))
		if o.Err() == nil {
			t.Error("one byte more: the link lives on")
		}
		if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
			t.Errorf("%v", lost)
		}
	})
}

// TestTheControlStreamsWindowMovesOn: what is read at once is granted anew.
func TestTheControlStreamsWindowMovesOn(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		o := newLone(t, simnet.Line{}, cfg, false)
		o.says(controlStream)
		message := append(wire.AppendHeader(nil, wire.Header{Type: 0x99, Length: 1020}), make([]byte, 1020)...)
		for range 80 {
			o.says(muxData(0, 1, strings.Repeat(string(message), muxWindow/8/1024)))
		}
		if err := o.Err(); err != nil {
			t.Error(err)
		}
		o.close()
	})
}

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
			if n := runtime.NumGoroutine(); n > idle {
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

// TestViolations: each is one frame after a proxy has opened the control stream and two
// more, the second of which has ended.
func TestViolations(t *testing.T) {
	for name, frame := range map[string][]byte{
		"version 1":               {1, muxTypeWindow, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0},
		"unknown type":            muxFrame(4, 0, 3, 0, ""),
		"ping":                    muxFrame(muxTypePing, muxSYN, 0, 0, ""),
		"answer to a ping":        muxFrame(muxTypePing, muxACK, 0, 0, ""),
		"stream 0":                muxSignal(muxSYN, 0),
		"stream 0 with data":      muxData(muxSYN, 0, "x"),
		"opened twice":            muxSignal(muxSYN, 3),
		"opened twice with data":  muxData(muxSYN, 3, "x"),
		"ended twice":             muxSignal(muxFIN, 5),
		"ended twice with data":   muxData(muxFIN, 5, "x"),
		"control stream ended":    muxSignal(muxFIN, 1),
		"control stream reset":    muxSignal(muxRST, 1),
		"too large":               muxFrame(muxTypeData, 0, 3, maxChunk+1, ""),
		"much too large":          muxFrame(muxTypeData, 0, 3, 1<<31, ""),
		"as large as can be":      muxFrame(muxTypeData, 0, 3, math.MaxUint32, ""),
		"too large, unknown":      muxFrame(muxTypeData, 0, 77, math.MaxUint32, ""),
		"window":                  muxFrame(muxTypeWindow, 0, 3, math.MaxUint32, ""),
		"go away for an error":    muxFrame(muxGoAway, 0, 0, 1, ""),
		"go away, unknown reason": muxFrame(muxGoAway, 0, 0, 99, ""),
		"unknown control message": muxData(0, 1, "\x40\x00\x00\x00"),
		"session's message":       muxData(0, 1, string(wire.Append(nil, &wire.Fin{}))),
		"control message's end":   muxData(muxFIN, 1, string(wire.Append(nil, &wire.Beat{Seq: 1}))),
	} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, false)
			o.says(controlStream, muxSignal(muxSYN, 3), muxSignal(muxSYN|muxFIN, 5))
			c := o.accept1(t)
			o.accept1(t)
			if err := o.Err(); err != nil {
				t.Errorf("%s: before: %v", name, err)
			}
			o.says(frame)
			if o.Err() == nil {
				t.Errorf("%s: the link lives on", name)
			}
			if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
				t.Errorf("%s: %v", name, lost)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.As(err, new(*LostError)) {
				t.Errorf("%s: read: %v", name, err)
			}
			if _, err := c.Write(make([]byte, 1)); !errors.As(err, new(*LostError)) {
				t.Errorf("%s: write: %v", name, err)
			}
		})
	}
}

// TestARelayMayNotOpenStreams, in whatever kind of frame.
func TestARelayMayNotOpenStreams(t *testing.T) {
	for _, frame := range [][]byte{muxSignal(muxSYN, 2), muxSignal(muxSYN, 7), muxData(muxSYN, 2, "x"), muxData(muxSYN|muxRST, 2, "")} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, true)
			synctest.Wait()
			o.says(frame)
			if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
				t.Errorf("%x: %v", frame, lost)
			}
		})
	}
}

// TestOddFramesAreNoViolation: yamux takes them, too.
func TestOddFramesAreNoViolation(t *testing.T) {
	for name, frame := range map[string][]byte{
		"go away":                  muxFrame(muxGoAway, 0, 0, 0, ""),
		"go away with flags":       muxFrame(muxGoAway, muxSYN|muxFIN|muxRST, 3, 0, ""),
		"empty data frame":         muxData(0, 3, ""),
		"unknown stream ended":     muxSignal(muxFIN, 77),
		"unknown stream's window":  muxFrame(muxTypeWindow, 0, 77, math.MaxUint32, ""),
		"as large a window as can": muxFrame(muxTypeWindow, 0, 3, math.MaxUint32-muxWindow, ""),
		"unknown flags":            muxFrame(muxTypeWindow, 0xfff0, 3, 0, ""),
		"reset and ended":          muxSignal(muxFIN|muxRST, 5),
	} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, false)
			o.says(controlStream, muxSignal(muxSYN, 3), muxSignal(muxSYN, 5))
			c := o.accept1(t)
			o.says(frame, muxData(muxFIN, 3, "hello"))
			if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
				t.Errorf("%s: write: %d, %v", name, n, err)
			}
			if err := o.Err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			o.close()
		})
	}
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
