package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// joined is a link of both ends over a simulated line, without TLS.
type pair struct {
	a, b             *simnet.Conn
	proxy, relay     *Link
	proxyErr, relErr error
	wg               sync.WaitGroup
	stop             context.CancelCauseFunc // both
	stopRelay        context.CancelFunc
}

func join(t *testing.T, line simnet.Line, proxy, relay Config) *pair {
	t.Helper()
	p := &pair{}
	p.a, p.b = simnet.Pipe(line)
	var err error
	ma, mb := NewMeter(p.a), NewMeter(p.b)
	if p.proxy, err = Client(ma, ma, proxy); err != nil {
		t.Fatal(err)
	}
	if p.relay, err = Server(mb, mb, relay); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancelCause(context.Background())
	p.wg.Go(func() { p.proxyErr = p.proxy.Run(ctx) })
	relayCtx, stopRelay := context.WithCancel(ctx)
	p.stopRelay = stopRelay
	p.wg.Go(func() { p.relErr = p.relay.Run(relayCtx) })
	return p
}

func (p *pair) close() {
	p.stop(errors.New("test over"))
	p.a.Thaw()
	p.b.Thaw()
	p.wg.Wait()
}

// carriers opens one carrier and returns both its ends.
func (p *pair) carriers(t *testing.T) (proxy, relay io.ReadWriteCloser) {
	t.Helper()
	proxy, err := p.proxy.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	relay, err = p.relay.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return proxy, relay
}

// control writes to the proxy's end of the control stream, while nobody else writes.
func (p *pair) control(b []byte) {
	_ = p.proxy.framer.write(append(appendHeader(nil, muxTypeData, p.proxy.controlID, len(b)), b...))
}

// hits counts the limits that a peer has hit.
type hits struct {
	mu sync.Mutex // guards by
	by map[Limit]int
}

func (t *hits) trace() *Trace {
	return &Trace{LimitHit: func(l Limit) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.by == nil {
			t.by = make(map[Limit]int)
		}
		t.by[l]++
	}}
}

func (t *hits) of(l Limit) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[l]
}

var quiet = Config{Heartbeat: heartbeat.Policy{Interval: heartbeat.Off}}

func TestCarriersCarryBothWays(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{Rate: 1 << 20, Delay: 10 * time.Millisecond}, Config{}, Config{})
		var wg sync.WaitGroup
		for i := range 20 {
			a, b := p.carriers(t)
			data := random(i * 10_000)
			for _, ends := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
				wg.Go(func() {
					if n, err := ends[0].Write(data); n != len(data) || err != nil {
						t.Errorf("wrote %d of %d, %v", n, len(data), err)
					}
				})
				wg.Go(func() {
					got := make([]byte, len(data))
					if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, data) {
						t.Errorf("carrier %d: %v", i, err)
					}
				})
			}
		}
		wg.Wait()
		p.close()
	})
}

// TestAnIdleLinkHasNoWriter: thousands of links wait at a relay, each goroutine with a
// stack of its own.
func TestAnIdleLinkHasNoWriter(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const each = 3 // Run, yamux's two
		before := runtime.NumGoroutine()
		x, y := simnet.Pipe(simnet.Line{Delay: 10 * time.Millisecond})
		line := runtime.NumGoroutine() - before // its own
		x.Close()
		y.Close()
		synctest.Wait()
		before = runtime.NumGoroutine() + line
		p := join(t, simnet.Line{Delay: 10 * time.Millisecond}, Config{}, Config{})
		a, b := p.carriers(t)
		for range 10 { // bytes and beats
			if _, err := a.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := simnet.Goroutines(before+2*each) - before; n > 2*each {
			t.Errorf("%d goroutines for two ends of an idle link, want %d", n, 2*each)
		}
		p.close()
	})
}

func TestCloseIsTheEndOfTheCarrierAlone(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{}, Config{}, Config{})
		a, b := p.carriers(t)
		a2, b2 := p.carriers(t)
		a.Write([]byte("last"))
		a.Close()
		if got, err := io.ReadAll(b); string(got) != "last" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		b.Close()
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		a2.Write([]byte("still here"))
		got := make([]byte, 10)
		if _, err := io.ReadFull(b2, got); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(p.proxy.carriers) + len(p.relay.carriers); n != 4 { // with the control stream's
			t.Errorf("%d carriers left", n)
		}
		p.close()
	})
}

// TestFrozenPeerHoldsNobody: in virtual time nothing but a wait takes time, so
// "within 10 ms" is exact.
func TestFrozenPeerHoldsNobody(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{Buffer: 64 << 10}, quiet, quiet)
		writer, _ := p.carriers(t)
		reader, _ := p.carriers(t)
		closer, _ := p.carriers(t)
		p.b.Freeze()

		big := make([]byte, 10<<20)
		wrote := make(chan error, 1)
		go func() {
			_, err := writer.Write(big)
			wrote <- err
		}()
		time.Sleep(time.Second) // the path is full
		read := make(chan error, 1)
		go func() {
			_, err := reader.Read(make([]byte, 1))
			read <- err
		}()
		ctx, cancel := context.WithCancel(t.Context())
		opened := make(chan error, 1)
		go func() {
			for { // until as many as backlog wait for the peer
				if _, err := p.proxy.Open(ctx); err != nil {
					opened <- err
					return
				}
			}
		}()
		time.Sleep(time.Hour) // far beyond every timeout of yamux
		synctest.Wait()

		within := func(what string, f func()) {
			start := time.Now()
			f()
			if d := time.Since(start); d > 10*time.Millisecond {
				t.Errorf("%s took %v", what, d)
			}
		}
		within("close of a blocked writer", func() {
			writer.Close()
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("write: %v", err)
			}
		})
		within("close of a blocked reader", func() {
			reader.Close()
			if err := <-read; !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v", err)
			}
		})
		within("close", func() { closer.Close() })
		within("open", func() {
			cancel()
			if err := <-opened; !errors.Is(err, context.Canceled) {
				t.Errorf("open: %v", err)
			}
		})
		p.stop(errors.New("enough"))
		<-p.proxy.Done()
		within("open on a link that has ended", func() {
			if _, err := p.proxy.Open(t.Context()); !errors.As(err, new(*LostError)) {
				t.Errorf("open: %v", err)
			}
		})
		p.close()
	})
}

func TestSilentPeerIsLostExactly(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var missed []int
		cfg := Config{
			Heartbeat: heartbeat.Policy{Interval: 60 * time.Second, Timeout: 60 * time.Second, CountMax: 3},
			Trace:     &Trace{BeatMissed: func(row int) { missed = append(missed, row) }},
		}
		p := join(t, simnet.Line{}, cfg, quiet)
		carrier, _ := p.carriers(t)
		p.a.Hole(true)
		start := time.Now()
		_, err := carrier.Read(make([]byte, 1))
		var lost *LostError
		if !errors.As(err, &lost) || lost.Reason != MissedBeats {
			t.Fatalf("%v", err)
		}
		// First beat after 54…60 s, lost 180 s after it.
		if d := time.Since(start); d < 234*time.Second || d > 240*time.Second {
			t.Errorf("lost after %v", d)
		}
		if len(missed) != 3 || missed[2] != 3 {
			t.Errorf("missed %v", missed)
		}
		p.close()
		if !errors.As(p.proxyErr, &lost) || lost.Reason != MissedBeats {
			t.Errorf("run: %v", p.proxyErr)
		}
	})
}

func TestBeatsKeepANATFromForgetting(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var rtts, sent int
		cfg := Config{Trace: &Trace{BeatSent: func(uint64) { sent++ }, BeatAnswered: func(d time.Duration) {
			if d != 100*time.Millisecond {
				t.Errorf("rtt %v", d)
			}
			rtts++
		}}}
		p := join(t, simnet.Line{Delay: 50 * time.Millisecond, NAT: simnet.NAT{Idle: 30 * time.Second}}, cfg, quiet)
		a, b := p.carriers(t)
		time.Sleep(24 * time.Hour)
		a.Write([]byte("still here"))
		got := make([]byte, 10)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "still here" {
			t.Errorf("%q, %v", got, err)
		}
		p.close()
		if sent < 24*180 || sent > 24*200+1 || rtts < sent-1 {
			t.Errorf("%d beats, %d answered", sent, rtts)
		}
	})
}

func TestBothSidesBeatOnTheirOwn(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var proxy, relay int
		p := join(t, simnet.Line{},
			Config{Heartbeat: heartbeat.Policy{Interval: time.Minute}, Trace: &Trace{BeatSent: func(uint64) { proxy++ }}},
			Config{Heartbeat: heartbeat.Policy{Interval: 10 * time.Minute}, Trace: &Trace{BeatSent: func(uint64) { relay++ }}})
		time.Sleep(time.Hour)
		p.close()
		if proxy < 60 || relay != 0 { // the proxy's beats are bytes for the relay
			t.Errorf("%d, %d", proxy, relay)
		}
	})
}

func TestBeatFloodIsToldThenDropped(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		slowed := 0
		proxy := Config{
			Heartbeat: heartbeat.Policy{Interval: heartbeat.MinInterval},
			Trace:     &Trace{SlowDown: func(time.Duration) { slowed++ }},
		}
		var hit hits
		p := join(t, simnet.Line{}, proxy, Config{Heartbeat: quiet.Heartbeat, Trace: hit.trace()})
		time.Sleep(time.Hour)
		if slowed != 1 || p.proxy.Err() != nil {
			t.Errorf("told %d times, %v", slowed, p.proxy.Err())
		}
		if n := hit.of(LimitBeatPace); n != 1 {
			t.Errorf("counted %d times", n)
		}
		go func() { // a peer that does not obey
			for range 100_000 {
				p.proxy.mu.Lock()
				p.proxy.queue.control.beat = 1 << 40
				p.proxy.queue.wake()
				p.proxy.mu.Unlock()
				select {
				case <-p.relay.Done():
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		select {
		case <-p.relay.Done():
		case <-time.After(time.Hour):
		}
		var lost *LostError
		if err := p.relay.Err(); !errors.As(err, &lost) || lost.Reason != Protocol {
			t.Errorf("%v", err)
		}
		// Told once more, and dropped.
		if n := hit.of(LimitBeatPace); n != 3 {
			t.Errorf("counted %d times", n)
		}
		p.close()
	})
}

func TestReasons(t *testing.T) {
	for reason, kill := range map[Reason]func(p *pair){
		Reset:    func(p *pair) { p.a.Cut() },
		EOF:      func(p *pair) { p.b.CloseWrite() },
		Shutdown: func(p *pair) { p.stopRelay() },
	} {
		simnet.Bubble(t, func(t *testing.T) {
			relay := quiet
			relay.ComeBack = time.Second
			p := join(t, simnet.Line{}, quiet, relay)
			c, _ := p.carriers(t)
			go kill(p)
			_, err := c.Read(make([]byte, 1))
			var lost *LostError
			if !errors.As(err, &lost) || lost.Reason != reason {
				t.Errorf("%s: %v", reason, err)
			}
			if reason == Shutdown {
				<-p.proxy.Away()
				if p.proxy.ComeBack() != time.Second {
					t.Errorf("come back after %v", p.proxy.ComeBack())
				}
			}
			p.close()
		})
	}
}

func TestGarbageOnTheControlStreamEndsTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{}, quiet, quiet)
		p.carriers(t)
		p.control(wire.Append(nil, &wire.Fin{Offset: 1}))
		<-p.relay.Done()
		var lost *LostError
		if err := p.relay.Err(); !errors.As(err, &lost) || lost.Reason != Protocol {
			t.Errorf("%v", err)
		}
		p.close()
	})
}

// TestUnknownControlMessagesAreSkipped: so the protocol can grow.
func TestUnknownControlMessagesAreSkipped(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{}, quiet, quiet)
		a, b := p.carriers(t)
		p.control(append(wire.AppendHeader(nil, wire.Header{Type: 0x99, Length: 3}), "new"...))
		a.Write([]byte("x"))
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := p.relay.Err(); err != nil {
			t.Error(err)
		}
		p.close()
	})
}

// counter counts writes.
type counter struct {
	net.Conn
	mu     sync.Mutex
	writes []int
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, len(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func TestHeaderAndBodyAreOneWrite(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		a, b := simnet.Pipe(simnet.Line{})
		ma, mb := NewMeter(a), NewMeter(b)
		count := &counter{Conn: ma}
		proxy, _ := Client(count, ma, quiet)
		relay, _ := Server(mb, mb, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { proxy.Run(ctx) })
		wg.Go(func() { relay.Run(ctx) })
		c, err := proxy.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := len(count.writes) // the opening of two streams
		c.Write(make([]byte, 1000))
		synctest.Wait()
		if got := count.writes[before:]; len(got) != 1 || got[0] != muxHeader+1000 {
			t.Errorf("writes of %v bytes", got)
		}
		cancel()
		wg.Wait()
	})
}

// TestKeystrokeGoesBeforeBulk: with bulk waiting on a slow line, a small write is
// behind one chunk only.
func TestKeystrokeGoesBeforeBulk(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		const rate = 125_000 // 1 Mbit/s
		p := join(t, simnet.Line{Rate: rate, Buffer: 8 << 10}, quiet, quiet)
		bulk, sink := p.carriers(t)
		keys, echo := p.carriers(t)
		go bulk.Write(make([]byte, 10<<20))
		go io.Copy(io.Discard, sink)
		time.Sleep(10 * time.Second)
		start := time.Now()
		keys.Write([]byte("k"))
		io.ReadFull(echo, make([]byte, 1))
		// 8 KiB of socket buffer at each end, one chunk, one write of yamux.
		if d := time.Since(start); d > 250*time.Millisecond {
			t.Errorf("the keystroke took %v", d)
		}
		p.close()
	})
}

func TestManyOpensAtOnce(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{Delay: 100 * time.Millisecond}, Config{}, Config{})
		go func() {
			for {
				c, err := p.relay.Accept(context.Background())
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
		var wg sync.WaitGroup
		for range 1000 { // more than yamux's backlog
			wg.Go(func() {
				c, err := p.proxy.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.Write([]byte("hello"))
				if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		p.close()
	})
}

func TestChunkerFindsTheRate(t *testing.T) {
	k := chunker{size: firstChunk}
	for range 20 {
		k.wrote(k.size, time.Duration(k.size)*time.Second/8000) // 64 kbit/s
	}
	if k.size != minChunk {
		t.Errorf("64 kbit/s: %d", k.size)
	}
	for range 20_000 {
		k.wrote(k.size, time.Duration(k.size)*time.Second/1_250_000) // 10 Mbit/s
	}
	if k.size < 5_000 || k.size > 7_500 {
		t.Errorf("10 Mbit/s: %d", k.size)
	}
	for range 200_000 {
		k.wrote(k.size, 20*time.Microsecond)
	}
	if k.size != maxChunk {
		t.Errorf("loopback: %d", k.size)
	}
}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// TestAPingEndsTheLink: yamux would start a goroutine for each, without bound.
func TestAPingEndsTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p := join(t, simnet.Line{}, quiet, quiet)
		p.carriers(t)
		p.a.Write([]byte{0, muxTypePing, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})
		<-p.relay.Done()
		var lost *LostError
		if err := p.relay.Err(); !errors.As(err, &lost) || lost.Reason != Protocol {
			t.Errorf("%v", err)
		}
		p.close()
	})
}

// retransmitting is a connection whose kernel sends again and again.
type retransmitting struct {
	net.Conn
	times atomic.Int64
}

func (c *retransmitting) Retransmits() (int, bool) { return int(c.times.Load()), c.times.Load() >= 0 }

func TestWhatTheKernelSendsAgainAndAgainIsSuspicious(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		a, b := simnet.Pipe(simnet.Line{})
		doubtful := &retransmitting{Conn: a}
		ma, mb := NewMeter(doubtful), NewMeter(b)
		var got []Reason
		proxy, err := Client(ma, ma, Config{Heartbeat: quiet.Heartbeat, Trace: &Trace{Suspected: func(r Reason) { got = append(got, r) }}})
		if err != nil {
			t.Fatal(err)
		}
		relay, err := Server(mb, mb, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = proxy.Run(ctx) })
		wg.Go(func() { _ = relay.Run(ctx) })
		c, err := proxy.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for times, want := range []int{0, 0, 0, 1} {
			doubtful.times.Store(int64(times))
			io.WriteString(c, "x")
			time.Sleep(2 * watchTime)
			synctest.Wait()
			if len(got) != want {
				t.Errorf("after %d retransmissions: %v", times, got)
			}
		}
		doubtful.times.Store(-1) // all is acknowledged
		io.WriteString(c, "x")
		time.Sleep(time.Hour)
		if len(got) != 1 || got[0] != Timeout {
			t.Errorf("%v", got)
		}
		stop()
		wg.Wait()
	})
}

func TestAProbeThatNobodyAnswersIsSuspicious(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var got []time.Duration
		start := time.Now()
		p := join(t, simnet.Line{Delay: 10 * time.Millisecond}, Config{
			Heartbeat: quiet.Heartbeat,
			Trace:     &Trace{Suspected: func(Reason) { got = append(got, time.Since(start)) }},
		}, quiet)
		p.carriers(t)
		p.proxy.Probe(time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got != nil {
			t.Errorf("an answered probe: %v", got)
		}
		p.a.Hole(true)
		start = time.Now()
		p.proxy.Probe(time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(got) != 1 || got[0] != time.Second {
			t.Errorf("a probe without an answer: %v", got)
		}
		p.proxy.Close(NetworkChanged)
		p.close()
		var lost *LostError
		if !errors.As(p.proxyErr, &lost) || lost.Reason != NetworkChanged {
			t.Errorf("%v", p.proxyErr)
		}
	})
}

// TestWhatNobodyReadsIsNotTaken: a peer that fills streams which are not read fills
// so much memory and no more, and its link ends for lack of beats.
func TestWhatNobodyReadsIsNotTaken(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var hit hits
		p := join(t, simnet.Line{}, quiet, Config{Heartbeat: heartbeat.Policy{Interval: time.Second, Timeout: time.Second, CountMax: 3}, Trace: hit.trace()})
		var wg sync.WaitGroup
		for range 8 {
			a, _ := p.carriers(t)
			wg.Go(func() {
				for {
					if _, err := a.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			})
		}
		p.wg.Wait() // both ends
		wg.Wait()
		p.relay.unread.mu.Lock()
		defer p.relay.unread.mu.Unlock()
		if n := p.relay.unread.n; n > maxUnread+maxChunk {
			t.Errorf("%d bytes unread", n)
		}
		if n := hit.of(LimitUnread); n != 1 {
			t.Errorf("counted %d times", n)
		}
		var lost *LostError
		if !errors.As(p.relErr, &lost) || lost.Reason != MissedBeats {
			t.Errorf("%v", p.relErr)
		}
		p.close()
	})
}

func TestTooManyStreamsEndTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var hit hits
		p := join(t, simnet.Line{}, quiet, Config{Heartbeat: quiet.Heartbeat, MaxStreams: 3, Trace: hit.trace()})
		for range 10 { // and come and go
			a, b := p.carriers(t)
			a.Close()
			b.Close()
			synctest.Wait()
		}
		for range 3 {
			p.carriers(t)
		}
		if n := hit.of(LimitStreams); n != 0 {
			t.Errorf("counted %d times before it was hit", n)
		}
		if _, err := p.proxy.Open(t.Context()); err != nil {
			t.Error(err)
		}
		<-p.relay.Done()
		p.close()
		var lost *LostError
		if !errors.As(p.relErr, &lost) || lost.Reason != Protocol {
			t.Errorf("%v", p.relErr)
		}
		if n := hit.of(LimitStreams); n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

// TestABeatHealsLostReceipts: what went before an answered beat has arrived, whatever
// the governor was told.
func TestABeatHealsLostReceipts(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		beats := Config{Receipts: true, Heartbeat: heartbeat.Policy{Interval: time.Second, Timeout: time.Second}}
		p := join(t, simnet.Line{Delay: 10 * time.Millisecond}, beats, quiet)
		a, b := p.carriers(t)
		p.relay.mu.Lock()
		p.relay.telling = true // for ever: it tells nothing
		p.relay.mu.Unlock()
		begin := time.Now()
		data := random(256 << 10)
		go a.Write(data)
		got := make([]byte, len(data))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("bulk took %v", took)
		}
		p.close()
	})
}
