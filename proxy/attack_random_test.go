package proxy_test

import (
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/notice"
)

// TestAttackRandomFates: holes, cuts, relays that are away, dials that hang, notices
// and ages at random; then everything is well, and every session must echo soon.
func TestAttackRandomFates(t *testing.T) {
	n := 20
	if os.Getenv("SSHKA_SOAK") != "" {
		n = 500
	}
	if v, err := strconv.Atoi(os.Getenv("ATTACK_SEEDS")); err == nil {
		n = v
	}
	for seed := range uint64(n) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { simnet.Bubble(t, func(t *testing.T) { fate(t, seed) }) })
	}
}

func fate(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	var hangs atomic.Bool
	notices := make(chan notice.Event)
	o := options{
		line: simnet.Line{Delay: time.Duration(1+r.IntN(300)) * time.Millisecond}, window: 100 * time.Hour, notices: notices,
		hang: func(int64) bool { return hangs.Load() },
	}
	switch r.IntN(3) {
	case 0:
		o.heartbeat = heartbeat.Policy{Interval: 5 * time.Second, Timeout: 2 * time.Second, CountMax: 3}
	case 1:
		o.heartbeat = heartbeat.Policy{Interval: 5 * time.Second, Timeout: 2 * time.Second, CountMax: 30}
	}
	if r.IntN(2) == 0 {
		o.maxAge = time.Duration(10+r.IntN(100)) * time.Second
	}
	h := build(t, o)
	c := h.dial(t)
	d := h.dial(t)
	for range 30 + r.IntN(40) {
		switch r.IntN(11) {
		case 0:
			h.hole(true)
		case 1:
			h.hole(false)
		case 2:
			h.cut()
		case 3:
			h.down.Store(r.IntN(2) == 0)
		case 4:
			hangs.Store(r.IntN(3) == 0)
		case 5:
			notices <- notice.Event(r.IntN(2))
		case 6:
			h.mu.Lock()
			h.paths[r.IntN(len(h.paths))].Hole(true)
			h.mu.Unlock()
		case 7:
			h.mu.Lock()
			for _, p := range h.paths {
				p.Hole(false)
			}
			h.mu.Unlock()
		case 8:
			h.mu.Lock()
			h.paths[r.IntN(len(h.paths))].Cut()
			h.mu.Unlock()
		}
		time.Sleep([]time.Duration{0, time.Millisecond, 100 * time.Millisecond, time.Second, 7 * time.Second, 40 * time.Second, 10 * time.Minute}[r.IntN(7)])
	}
	h.down.Store(false)
	hangs.Store(false)
	start := time.Now()
	for i, s := range []io.ReadWriter{c, d} {
		s := s.(interface {
			io.ReadWriter
			SetDeadline(time.Time) error
			Err() error
		})
		s.SetDeadline(time.Now().Add(24 * time.Hour))
		io.WriteString(s, "calm")
		if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
			t.Errorf("session %d: %v, %v; %d dials", i, err, s.Err(), h.dials.Load())
		}
	}
	if took := time.Since(start); took > 70*time.Second {
		t.Errorf("the calm needs %v (%+v, age %v)", took, o.heartbeat, o.maxAge)
	}
	if e := h.ended.Load(); e != 0 {
		t.Errorf("%d sessions ended", e)
	}
	c.Abort(nil)
	d.Abort(nil)
	time.Sleep(time.Second)
	h.stop()
	synctest.Wait()
	h.close()
}
