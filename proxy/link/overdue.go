package link

import (
	"net"
	"time"
)

// awaitReceipt looks after bulk that may not leave before a RECEIPT, if there is such. A
// lost packet holds that up for a round trip, and the line would run dry: the kernel knows
// what is still on it. The caller holds mu.
func (l *Link) awaitReceipt() {
	if l.asking || l.blind || !l.held() {
		return
	}
	l.asking = true
	wait := l.governor.patience(l.meter.now())
	if l.asker == nil {
		l.asker = time.AfterFunc(wait, l.ask)
	} else {
		l.asker.Reset(wait)
	}
}

// ask is the asker's function.
func (l *Link) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking = false
	if now := l.meter.now(); l.governor.silence(now) >= l.governor.patience(now) {
		l.askKernel()
	}
	l.awaitReceipt()
}

// held reports whether bulk waits for a RECEIPT. The caller holds mu.
func (l *Link) held() bool {
	return l.lost == nil && l.cfg.Receipts && len(l.queue.bulk) > 0 && l.bulkRoom() <= 0
}

// askKernel lets bulk leave in place of what has left the line. What is just being written
// would be missing there: the writer asks again when it has. The caller holds mu.
func (l *Link) askKernel() {
	if l.blind || l.writing || !l.held() {
		return
	}
	n, hole, ok := onLine(l.meter.Conn)
	if l.blind = !ok; ok {
		l.governor.kernel(n, hole, l.meter.now())
		l.queue.wake()
	}
}

// onLine asks how many bytes have been written and not reached the other end's kernel, and
// whether some that have wait there for a lost packet.
func onLine(c net.Conn) (n int, hole, ok bool) {
	if c, is := c.(interface{ OnLine() (int, bool) }); is {
		n, hole = c.OnLine()
		return n, hole, true
	}
	return kernelOnLine(c)
}
