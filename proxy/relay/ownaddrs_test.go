package relay

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestOwnAddressesAreKnownWithinASecond, and not asked for at every session. An error
// is no answer.
func TestOwnAddressesAreKnownWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var failure error
		o := ownAddrs{list: func() ([]net.Addr, error) {
			asked++
			return make([]net.Addr, asked), failure
		}}
		get := func(want int) {
			t.Helper()
			if addrs, err := o.get(); len(addrs) != want || err != nil {
				t.Errorf("%d addresses, %v; want %d", len(addrs), err, want)
			}
		}
		get(1)
		time.Sleep(ownAddrsTime - time.Nanosecond)
		get(1)
		time.Sleep(time.Nanosecond)
		get(2)
		time.Sleep(ownAddrsTime)
		failure = errors.New("netlink is gone")
		if _, err := o.get(); !errors.Is(err, failure) {
			t.Errorf("%v", err)
		}
		failure = nil
		get(4)
	})
}
