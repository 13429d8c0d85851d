package notice

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// computer is one whose wall clock and network a test holds in its hands.
type computer struct {
	mu     sync.Mutex
	slept  time.Duration
	change chan struct{}
	told   []Event
	at     []time.Duration
}

func watch(ctx context.Context, t *testing.T) *computer {
	t.Helper()
	c := &computer{change: make(chan struct{})}
	start := time.Now()
	w := Watcher{
		Wall: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return time.Now().Round(0).Add(c.slept)
		},
		Network: func(ctx context.Context, changed func()) {
			for {
				select {
				case <-c.change:
					changed()
				case <-ctx.Done():
					return
				}
			}
		},
	}
	go w.Run(ctx, func(e Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.told = append(c.told, e)
		c.at = append(c.at, time.Since(start))
	})
	return c
}

func (c *computer) events() []Event {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.told
	c.told = nil
	return told
}

func TestASleepIsNoticedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := watch(ctx, t)
		time.Sleep(time.Hour)
		if got := c.events(); got != nil {
			t.Fatalf("told %v while nothing happened", got)
		}
		for _, slept := range []time.Duration{10 * time.Second, 8 * time.Hour} {
			c.mu.Lock()
			c.slept += slept
			c.mu.Unlock()
			time.Sleep(tick)
			if got := c.events(); !slices.Equal(got, []Event{Woke}) {
				t.Errorf("slept %v, told %v", slept, got)
			}
		}
		// A clock that is corrected a little, or set back, is no sleep.
		for _, d := range []time.Duration{time.Second, -time.Hour} {
			c.mu.Lock()
			c.slept += d
			c.mu.Unlock()
			time.Sleep(5 * tick)
			if got := c.events(); got != nil {
				t.Errorf("clock set by %v, told %v", d, got)
			}
		}
		cancel()
		synctest.Wait()
	})
}

// TestAStopIsNoticed: the monotonic clock runs on while a process is stopped, and
// on some systems while the computer sleeps.
func TestAStopIsNoticed(t *testing.T) {
	now := time.Now()
	c := clocks{mono: now, wall: now.Round(0)}
	for _, tt := range []struct {
		ran, passed time.Duration
		want        bool
	}{
		{tick, tick, false},
		{tick + 2*time.Second, tick + 2*time.Second, false}, // a busy machine
		{10 * time.Second, 10 * time.Second, true},
		{tick, time.Minute, true},
	} {
		now = now.Add(tt.ran)
		wall := c.wall.Add(tt.passed)
		if got := c.jumped(now, wall); got != tt.want {
			t.Errorf("ran %v, passed %v: %v", tt.ran, tt.passed, got)
		}
	}
}

func TestChangesAreToldAtOnceAndNotOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := watch(ctx, t)
		for range 20 { // an address and its routes
			c.change <- struct{}{}
		}
		time.Sleep(settle)
		if got := c.events(); !slices.Equal(got, []Event{NetworkChanged}) {
			t.Errorf("told %v", got)
		}
		// The next one is told, too, not much later.
		time.Sleep(20 * time.Millisecond)
		c.change <- struct{}{}
		time.Sleep(minGap + settle)
		if got := c.events(); !slices.Equal(got, []Event{NetworkChanged}) {
			t.Errorf("told %v", got)
		}
		cancel()
		synctest.Wait()
	})
}

func TestChangesWithoutEndAreToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := watch(ctx, t)
		for range 600 { // a minute
			time.Sleep(100 * time.Millisecond)
			c.change <- struct{}{}
		}
		if n := len(c.events()); n < 10 || n > 30 {
			t.Errorf("told %d times in a minute", n)
		}
		time.Sleep(time.Minute) // and at once again after a calm
		c.events()
		c.change <- struct{}{}
		time.Sleep(settle)
		if n := len(c.events()); n != 1 {
			t.Errorf("told %d times", n)
		}
		cancel()
		synctest.Wait()
	})
}
