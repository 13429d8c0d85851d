package relay

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// comeIn is a link of somebody, by ticket or by key.
func comeIn(t *tickets, fingerprint string, by *wire.Welcome) (w *wire.Welcome, ended func(bool)) {
	id := keyauth.Identity{Fingerprint: fingerprint}
	if by != nil {
		id.Ticket, id.TicketID = wire.TicketLink, by.TicketID
	}
	return t.issue(id)
}

func known(t *tickets, w *wire.Welcome) bool {
	secret, _, ok := t.find(w.TicketID)
	return ok && secret == w.Secret
}

func TestATicketOutlivesItsLinkForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := newTickets(time.Hour, func(Limit) {})
		w, ended := comeIn(tk, "a", nil)
		time.Sleep(24 * time.Hour)
		if !known(tk, w) {
			t.Fatal("forgotten while its link lives")
		}
		ended(false)
		time.Sleep(59 * time.Minute)
		if !known(tk, w) {
			t.Fatal("forgotten within the window")
		}
		time.Sleep(2 * time.Minute)
		if known(tk, w) || len(tk.byID) != 0 || len(tk.owners) != 0 {
			t.Fatal("kept beyond the window")
		}
	})
}

// TestAProxyThatComesAgainLeavesTwoTickets: the one it came by, should the answer
// have been lost, and the one it got.
func TestAProxyThatComesAgainLeavesTwoTickets(t *testing.T) {
	tk := newTickets(time.Hour, func(Limit) {})
	w, ended := comeIn(tk, "a", nil)
	for range 1000 {
		ended(false)
		old := w
		w, ended = comeIn(tk, "a", w)
		if !known(tk, old) || !known(tk, w) {
			t.Fatal("a ticket that may be needed is gone")
		}
	}
	if len(tk.byID) != 2 {
		t.Errorf("%d tickets", len(tk.byID))
	}
	ended(true) // it said goodbye
	if len(tk.byID) != 0 || len(tk.owners) != 0 {
		t.Errorf("%d tickets of a proxy that left for good", len(tk.byID))
	}
}

func TestAKeyHasSoManyTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hits tally
		tk := newTickets(time.Hour, hits.hit)
		other, _ := comeIn(tk, "b", nil)
		first, _ := comeIn(tk, "a", nil) // its link lives
		var second *wire.Welcome
		for i := range 3 * maxTicketsPerKey {
			w, ended := comeIn(tk, "a", nil)
			if i == 0 {
				second = w
			}
			ended(false)
			time.Sleep(time.Millisecond)
		}
		if n := len(tk.owners["a"]); n != maxTicketsPerKey {
			t.Errorf("%d tickets", n)
		}
		if !known(tk, first) || !known(tk, other) {
			t.Error("a ticket went whose link lives, or another key's")
		}
		if known(tk, second) {
			t.Error("the longest unused ticket stayed")
		}
		if n := hits[LimitTicketsPerKey]; n != 2*maxTicketsPerKey+1 {
			t.Errorf("the limit was hit %d times", n)
		}
	})
}

func TestWithoutAWindowThereAreNoTickets(t *testing.T) {
	tk := newTickets(0, func(Limit) {})
	w, ended := comeIn(tk, "a", nil)
	ended(false)
	if w.Secret != (wire.Secret{}) || len(tk.byID) != 0 {
		t.Error("a ticket that is worth nothing")
	}
}

// TestTicketsOfKeysThatAreGoneAreForgotten: an authority may name a new identity with
// every certificate.
func TestTicketsOfKeysThatAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := newTickets(time.Hour, func(Limit) {})
		stays, _ := comeIn(tk, "stays", nil)
		for i := range 1000 {
			_, ended := comeIn(tk, "CA id "+strconv.Itoa(i), nil)
			ended(false)
		}
		time.Sleep(59 * time.Minute)
		tk.sweep()
		if n := len(tk.byID); n != 1001 {
			t.Errorf("%d tickets within the window", n)
		}
		time.Sleep(2 * time.Minute)
		tk.sweep()
		if len(tk.byID) != 1 || len(tk.owners) != 1 || !known(tk, stays) {
			t.Errorf("%d tickets of %d keys beyond the window", len(tk.byID), len(tk.owners))
		}
	})
}
