package relay

import (
	"net"
	"sync"
	"time"
)

// ownAddrsTime is for how long this machine's addresses are believed: asking the kernel
// takes a tenth of a session's start, and more where there are many interfaces.
const ownAddrsTime = time.Second

// ownAddrs is net.InterfaceAddrs, remembered for ownAddrsTime. The zero value is
// ready.
type ownAddrs struct {
	list func() ([]net.Addr, error) // nil: net.InterfaceAddrs

	mu    sync.Mutex // guards all below; held while the kernel is asked
	at    time.Time
	addrs []net.Addr
}

// get returns the addresses, which are not to be changed. Errors are not remembered.
func (o *ownAddrs) get() ([]net.Addr, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.at.IsZero() && time.Since(o.at) < ownAddrsTime {
		return o.addrs, nil
	}
	list := o.list
	if list == nil {
		list = net.InterfaceAddrs
	}
	addrs, err := list()
	if err != nil {
		return nil, err
	}
	o.at, o.addrs = time.Now(), addrs
	return addrs, nil
}

// machine is this one: all dialers ask about the same.
var machine ownAddrs
