package link

import (
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// receiptBytes is how much must have arrived to be worth a RECEIPT: a session
	// that is typed into needs none.
	receiptBytes = 4 << 10
	// receiptTime is how long a RECEIPT may wait for more to tell: not long, since it looks
	// like a queue to the peer. On a path that is not governed it is nearReceiptTime.
	receiptTime     = 2 * time.Millisecond
	nearReceiptTime = 5 * time.Millisecond
)

// leaving counts bytes of the link that are about to be written.
func (l *Link) leaving(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.governor.leaving(n)
}

// passed counts bytes of the link.
func (l *Link) passed(in, out int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if out > 0 {
		l.governor.left(l.meter.now())
	}
	l.received += uint64(in)
	if in == 0 || l.telling || l.received-l.told < receiptBytes || l.lost != nil {
		return
	}
	l.telling = true
	wait := receiptTime
	if l.governor.near {
		wait = nearReceiptTime
	}
	if l.teller == nil {
		l.teller = time.AfterFunc(wait, l.tell)
	} else {
		l.teller.Reset(wait)
	}
}

// tell is the teller's function.
func (l *Link) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.telling = false
	l.told = l.received
	l.queue.control.receipt = l.received
	l.queue.wake()
}

// receipt takes the peer's.
func (l *Link) receipt(m *wire.Receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Receipts {
		behind := l.governor.held > 0
		l.governor.receipt(m.Bytes, l.meter.now())
		if behind { // perhaps another packet was lost, too
			l.askKernel()
		}
		l.queue.wake()
	}
}

// beatLeaves remembers what went before a beat. The caller holds mu.
func (l *Link) beatLeaves() { l.beatAfter = l.governor.sent }

// beatArrived takes a beat's answer as one more receipt: whatever went before the
// beat has arrived. A link on which receipts were lost goes on with the next beat. The
// caller holds mu.
func (l *Link) beatArrived(rtt time.Duration) {
	now := l.meter.now()
	if l.cfg.Receipts {
		l.governor.answered(l.beatAfter, rtt, now)
		l.queue.wake()
	}
}

// bulkRoom is how many bytes of bulk may leave now. The caller holds mu.
func (l *Link) bulkRoom() int {
	if !l.cfg.Receipts {
		return maxChunk
	}
	return l.governor.room()
}

// mostChunk is how many of them may leave together. The caller holds mu.
func (l *Link) mostChunk() int {
	if !l.cfg.Receipts {
		return maxChunk
	}
	return l.governor.chunk()
}

// mostInteractive is how many bytes one writer may write in interactiveTime and not
// be taken for bulk. The caller holds mu.
func (l *Link) mostInteractive() int {
	rate := l.governor.rate()
	if !l.cfg.Receipts || l.governor.near || rate == 0 {
		return interactiveBytes
	}
	return int(min(max(rate*interactiveTime.Seconds()*interactiveShare, leastInteractive), interactiveBytes))
}
