package relay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAKeyOpensSoManySessionsASecond(t *testing.T) {
	var k person
	now := time.Now()
	for i := range 1000 { // ten seconds' worth at once
		if wait := k.opens(now, 100); wait != 0 {
			t.Fatalf("open %d has to wait %v", i, wait)
		}
	}
	wait := k.opens(now, 100)
	if wait <= 0 || wait > 20*time.Millisecond {
		t.Errorf("one more has to wait %v", wait)
	}
	opened := 0
	for range 100_000 { // a flood for ten seconds
		now = now.Add(100 * time.Microsecond)
		if k.opens(now, 100) == 0 {
			opened++
		}
	}
	if opened < 990 || opened > 1010 {
		t.Errorf("%d opened in ten seconds of a flood", opened)
	}
	if now = now.Add(time.Hour); k.opens(now, 100) != 0 {
		t.Error("never forgiven")
	}
}

func TestAKeyHasSoManyLinks(t *testing.T) {
	p := newPeople(Limits{LinksPerKey: 2, DialsPerKey: 1})
	a := p.enter("a", false)
	if a == nil || p.enter("a", false) != a || p.enter("a", false) != nil || p.enter("b", false) == nil {
		t.Error("not two links for each key")
	}
	for range 2 {
		if p.enter("a", true) != a {
			t.Error("a key that comes back for its sessions is not let in")
		}
	}
	if p.enter("a", true) != nil {
		t.Error("more than twice as many")
	}
	p.leave("a")
	p.leave("a")
	p.leave("a")
	if p.enter("a", false) != a {
		t.Error("a place was not given back")
	}
	p.leave("a")
	p.leave("a")
	p.leave("b")
	if len(p.in) != 0 {
		t.Errorf("%d keys without links", len(p.in))
	}
}

func TestDialsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate, 1)
		full := 0
		wait := func(ctx context.Context) error { return g.wait(ctx, time.Second, func() { full++ }) }
		if err := wait(t.Context()); err != nil || full != 0 {
			t.Fatal(err, full)
		}
		time.AfterFunc(500*time.Millisecond, g.leave)
		if err := wait(t.Context()); err != nil {
			t.Error(err)
		}
		start := time.Now()
		if err := wait(t.Context()); !errors.Is(err, errTooManyDials) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if err := wait(ctx); !errors.Is(err, gone) {
			t.Errorf("%v", err)
		}
		if full != 3 {
			t.Errorf("%d had to wait", full)
		}
	})
}
