package test

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// conditions are what one direction of a line does to the packets that enter it.
// The zero conditions let everything pass at once.
type conditions struct {
	rate  int // bits a second; 0: no limit
	queue int // bytes that wait for their turn at that rate, more are dropped; 0: wanQueue

	delay  time.Duration // of every packet, once it is sent
	jitter time.Duration // up to so much more, at random; nothing overtakes by it

	loss    float64       // the share of packets that are dropped, 0 to 1
	reorder float64       // the share that is overtaken by what enters within late
	late    time.Duration // 0: wanLate
	corrupt float64       // the share of TCP segments with a flipped bit that their checksum does not tell
	hole    bool          // drops everything
}

const (
	wanMTU   = 1500     // bytes
	wanQueue = 64 << 10 // bytes
	wanLate  = 20 * time.Millisecond
	wanHeld  = 1 << 16 // packets that a direction holds at most, waiting or on their way
)

// traffic counts what became of the packets of one direction.
type traffic struct {
	passed, lost, overflowed, reordered, corrupted int

	waited time.Duration // the longest of them, for its turn
}

// wanEnd is where a line ends: a device that it makes in a namespace.
type wanEnd struct{ ns, device string }

// wan is a line between two namespaces: a TUN device in each, and between them
// this process, since not every kernel can delay packets. What it does at random
// is the same in every run.
type wan struct{ up, down *crossing }

// newWAN makes a line. Up leads from a to b. Its devices are there, without an
// address and down, when it returns; they and the line end with the test.
func newWAN(t *testing.T, a, b wanEnd, up, down conditions) *wan {
	t.Helper()
	var opened []*os.File
	t.Cleanup(func() {
		for _, f := range opened {
			f.Close()
		}
	})
	open := func(f *os.File, err error) *os.File {
		t.Helper()
		if err != nil {
			if mode := os.Getenv("SSHKA_E2E"); mode != "require" {
				t.Skipf("no line can be made here: %v", err)
			}
			t.Fatalf("no line can be made here: %v", err)
		}
		opened = append(opened, f)
		return f
	}
	fileA, fileB := open(openTUN(a)), open(openTUN(b))
	w := &wan{
		up:   newCrossing(fileA, fileB, open(newAlarm()), up, 1),
		down: newCrossing(fileB, fileA, open(newAlarm()), down, 2),
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		for _, f := range opened {
			f.Close()
		}
		running.Wait()
	})
	for _, c := range []*crossing{w.up, w.down} {
		running.Go(c.take)
		running.Go(c.deliver)
	}
	return w
}

// set changes both directions for what enters from now on.
func (w *wan) set(c conditions) {
	w.up.set(c)
	w.down.set(c)
}

// openTUN makes a TUN device. Its file can be read with deadlines and closed while
// somebody reads.
func openTUN(end wanEnd) (file *os.File, err error) {
	err = inNamespace(end.ns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(end.device)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("make TUN device %s: %w", end.device, err)
		}
		file = os.NewFile(uintptr(fd), end.device)
		return nil
	})
	return file, err
}

// alarm is a timer of the kernel's: Go's own are up to a millisecond late in an
// idle process.
type alarm struct{ file *os.File }

func newAlarm() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	return os.NewFile(uintptr(fd), "alarm"), nil
}

// set lets wait return once in is over, instead of when it was set to.
func (a alarm) set(in time.Duration) {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return // closed
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(in.Nanoseconds(), 1))}
	_ = raw.Control(func(fd uintptr) { _ = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
}

// wait waits until the alarm has rung since the last wait, or is closed.
func (a alarm) wait() error {
	var rings [8]byte
	_, err := a.file.Read(rings[:])
	return err
}

// crossing is one direction of a line.
type crossing struct {
	in, out *os.File
	next    alarm // rings when the next packet arrives

	mu      sync.Mutex // guards all below
	cond    conditions
	random  *rand.Rand
	free    time.Time // when all that waits has been sent
	arrived time.Time // when the last one that keeps its turn arrives
	entered uint64
	held    parcels
	seen    traffic
}

func newCrossing(in, out, timer *os.File, cond conditions, seed uint64) *crossing {
	return &crossing{in: in, out: out, next: alarm{timer}, cond: cond, random: rand.New(rand.NewPCG(seed, seed))}
}

func (c *crossing) set(cond conditions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cond = cond
}

// traffic returns what became of the packets until now.
func (c *crossing) traffic() traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// take reads the packets that enter, until the device is closed.
func (c *crossing) take() {
	for {
		p, _ := parcelPool.Get().(*parcel)
		n, err := c.in.Read(p.room[:])
		if err != nil {
			return
		}
		p.packet = p.room[:n]
		if !c.enter(p, time.Now()) {
			parcelPool.Put(p)
		}
	}
}

// enter decides when p arrives, and reports false if it never does.
func (c *crossing) enter(p *parcel, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cond := &c.cond
	if cond.hole || c.chance(cond.loss) {
		c.seen.lost++
		return false
	}
	if c.free.Before(now) {
		c.free = now
	}
	if cond.rate > 0 {
		queue := cond.queue
		if queue == 0 {
			queue = wanQueue
		}
		if c.free.Sub(now)+cond.sending(len(p.packet)) > cond.sending(queue) {
			c.seen.overflowed++
			return false
		}
		c.seen.waited = max(c.seen.waited, c.free.Sub(now))
		c.free = c.free.Add(cond.sending(len(p.packet)))
	}
	if len(c.held) == wanHeld {
		c.seen.overflowed++
		return false
	}
	if c.chance(cond.corrupt) && flipBit(p.packet, c.random) {
		c.seen.corrupted++
	}
	p.at = c.free.Add(cond.delay)
	if cond.jitter > 0 {
		p.at = p.at.Add(time.Duration(c.random.Int64N(int64(cond.jitter))))
	}
	if p.at.Before(c.arrived) {
		p.at = c.arrived
	}
	if c.chance(cond.reorder) {
		late := cond.late
		if late == 0 {
			late = wanLate
		}
		p.at = p.at.Add(late)
		c.seen.reordered++
	} else {
		c.arrived = p.at
	}
	c.seen.passed++
	c.entered++
	p.turn = c.entered
	heap.Push(&c.held, p)
	if c.held[0] == p {
		c.next.set(p.at.Sub(now))
	}
	return true
}

func (c *crossing) chance(share float64) bool { return share > 0 && c.random.Float64() < share }

// sending is how long so many bytes take.
func (cond *conditions) sending(bytes int) time.Duration {
	return time.Duration(float64(bytes) * 8 * float64(time.Second) / float64(cond.rate))
}

// deliver writes the packets that arrive, until the line is closed.
func (c *crossing) deliver() {
	for {
		p := c.due(time.Now())
		if p == nil {
			if c.next.wait() != nil {
				return
			}
			continue
		}
		// A device that is down takes nothing, as a cable without a plug.
		if _, err := c.out.Write(p.packet); errors.Is(err, os.ErrClosed) {
			return
		}
		parcelPool.Put(p)
	}
}

// due returns a packet that arrives now, or nil after it has set the alarm.
func (c *crossing) due(now time.Time) *parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return nil
	}
	if wait := c.held[0].at.Sub(now); wait > 0 {
		c.next.set(wait)
		return nil
	}
	p, _ := heap.Pop(&c.held).(*parcel)
	return p
}

// parcel is a packet on its way.
type parcel struct {
	packet []byte // of room
	at     time.Time
	turn   uint64 // in the order of entry
	room   [wanMTU + 64]byte
}

var parcelPool = sync.Pool{New: func() any { return new(parcel) }}

// parcels are a heap; the first to arrive is on top.
type parcels []*parcel

func (p parcels) Len() int      { return len(p) }
func (p parcels) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p parcels) Less(i, j int) bool {
	if p[i].at.Equal(p[j].at) {
		return p[i].turn < p[j].turn
	}
	return p[i].at.Before(p[j].at)
}

// Push is heap's.
func (p *parcels) Push(x any) {
	one, _ := x.(*parcel)
	*p = append(*p, one)
}

// Pop is heap's.
func (p *parcels) Pop() any {
	last := len(*p) - 1
	one := (*p)[last]
	(*p)[last] = nil
	*p = (*p)[:last]
	return one
}

// flipBit flips a bit in the payload of a TCP segment and mends the checksum, as
// a router with bad memory does that rewrites packets. It reports false for any
// other packet.
func flipBit(packet []byte, random *rand.Rand) bool {
	segment := tcpSegment(packet)
	if len(segment) < 20 {
		return false
	}
	header := int(segment[12]>>4) * 4
	if len(segment) <= header {
		return false
	}
	at := header + random.IntN(len(segment)-header)
	before := wordAt(segment, at)
	segment[at] ^= 1 << random.IntN(8)
	// RFC 1624, equation 3.
	sum := uint32(^binary.BigEndian.Uint16(segment[16:])) + uint32(^before) + uint32(wordAt(segment, at))
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(segment[16:], ^uint16(sum))
	return true
}

// wordAt returns the word of the checksum that the byte at i belongs to.
func wordAt(segment []byte, i int) uint16 {
	i &^= 1
	if i+1 == len(segment) {
		return uint16(segment[i]) << 8
	}
	return binary.BigEndian.Uint16(segment[i:])
}

// tcpSegment returns the TCP segment in an IP packet, or nil.
func tcpSegment(packet []byte) []byte {
	const v4Header, v6Header = 20, 40
	switch {
	case len(packet) >= v4Header && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_TCP:
		return packet[min(int(packet[0]&0xf)*4, len(packet)):]
	case len(packet) >= v6Header && packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_TCP:
		return packet[v6Header:]
	}
	return nil
}
