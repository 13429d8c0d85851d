package test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// lineAddresses are of the ends of a line between two namespaces that have nothing else.
var lineAddresses = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}

// newBareLine joins two namespaces of their own by a line.
func newBareLine(t *testing.T, up, down conditions) (w *wan, a, b string) {
	t.Helper()
	needLab(t)
	l := &lab{t: t, prefix: prefix + "line" + t.Name()[len("TestALine"):] + "-"}
	t.Cleanup(func() { removeNamespaces(l.prefix) })
	a, b = l.prefix+"a", l.prefix+"b"
	l.check(addNamespace(a))
	l.check(addNamespace(b))
	for _, ns := range []string{a, b} { // which has packets of its own
		l.check(sysctl(ns, "net.ipv6.conf.default.disable_ipv6", "1"))
	}
	w = newWAN(t, wanEnd{a, "wan"}, wanEnd{b, "wan"}, up, down)
	for i, ns := range []string{a, b} {
		l.check(runTool("addr add "+lineAddresses[i].String()+"/24 dev wan\nlink set wan up\n", "ip", "-n", ns, "-b", "-"))
	}
	return w, a, b
}

// listenIn and dialIn are net.Listen and net.Dial in a namespace.
func listenIn(ns, address string) (ln net.Listener, err error) {
	err = inNamespace(ns, func() error {
		ln, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address)
		return err
	})
	return ln, err
}

func dialIn(ns, address string) (conn net.Conn, err error) {
	err = inNamespace(ns, func() error {
		conn, err = (&net.Dialer{Timeout: patience}).Dial("tcp", address)
		return err
	})
	return conn, err
}

// udpPair returns a socket at each end of a line.
func udpPair(t *testing.T, a, b string) (from, to *net.UDPConn) {
	t.Helper()
	open := func(ns string, own netip.Addr) (conn *net.UDPConn) {
		if err := inNamespace(ns, func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 7)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetReadBuffer(4 << 20)
		return conn
	}
	return open(a, lineAddresses[0]), open(b, lineAddresses[1])
}

var lineFarEnd = netip.AddrPortFrom(lineAddresses[1], 7)

// arrivals reads numbered packets until none has come for a while.
func arrivals(t *testing.T, conn *net.UDPConn, silence time.Duration) (numbers []uint32, at []time.Time) {
	t.Helper()
	buf := make([]byte, 2048)
	for {
		conn.SetReadDeadline(time.Now().Add(silence))
		n, err := conn.Read(buf)
		if os.IsTimeout(err) {
			return numbers, at
		}
		if err != nil || n < 4 {
			t.Fatalf("read %d bytes: %v", n, err)
		}
		numbers, at = append(numbers, binary.BigEndian.Uint32(buf)), append(at, time.Now())
	}
}

// numbered sends numbered packets of a size, one each pause.
func numbered(t *testing.T, conn *net.UDPConn, count, size int, pause time.Duration) (at []time.Time) {
	t.Helper()
	packet := make([]byte, size)
	for i := range count {
		binary.BigEndian.PutUint32(packet, uint32(i))
		at = append(at, time.Now())
		if _, err := conn.WriteToUDPAddrPort(packet, lineFarEnd); err != nil {
			t.Fatal(err)
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return at
}

// What the line claims is what packets on it meet.
func TestALineDelaysByWhatItSays(t *testing.T) {
	t.Parallel()
	const delay, jitter, count = 40 * time.Millisecond, 20 * time.Millisecond, 200
	_, a, b := newBareLine(t, conditions{delay: delay, jitter: jitter}, conditions{})
	from, to := udpPair(t, a, b)
	type arrived struct {
		numbers []uint32
		at      []time.Time
	}
	all := make(chan arrived, 1)
	go func() {
		numbers, at := arrivals(t, to, time.Second)
		all <- arrived{numbers, at}
	}()
	sent := numbered(t, from, count, 100, 5*time.Millisecond)
	got := <-all
	if len(got.numbers) != count {
		t.Fatalf("%d of %d packets arrived", len(got.numbers), count)
	}
	took := make([]time.Duration, count)
	for i, n := range got.numbers {
		if int(n) != i {
			t.Fatalf("packet %d came as number %d: jitter must not reorder", n, i)
		}
		took[i] = got.at[i].Sub(sent[n])
	}
	slices.Sort(took)
	// A busy machine holds some of them up, and never all.
	least, median := took[0], took[count/2]
	t.Logf("the fastest took %s, the median is %s", least, median)
	if least < delay || least > delay+jitter/2 || median < delay+jitter/5 {
		t.Errorf("packets took %s at least and %s in the middle, want %s and up to %s more", least, median, delay, jitter)
	}
}

func TestALineCarriesAsMuchAsItSays(t *testing.T) {
	t.Parallel()
	const rate, queue, size = 8_000_000, 600_000, 972 // of 1,000 bytes with their headers
	w, a, b := newBareLine(t, conditions{rate: rate, queue: queue}, conditions{})
	from, to := udpPair(t, a, b)
	all := make(chan []time.Time, 1)
	go func() {
		_, at := arrivals(t, to, 500*time.Millisecond)
		all <- at
	}()
	// Much faster than the line is, until the queue is full and some more are dropped.
	for began := time.Now(); w.up.traffic().overflowed < 200; {
		numbered(t, from, 20, size, 0)
		time.Sleep(time.Millisecond)
		if time.Since(began) > patience {
			t.Fatalf("the queue is not full after %s: %+v", patience, w.up.traffic())
		}
	}
	at := <-all
	if len(at) < queue/1000/2 {
		t.Fatalf("%d packets arrived", len(at))
	}
	got := float64(len(at)-1) * 8000 / at[len(at)-1].Sub(at[0]).Seconds()
	seen := w.up.traffic()
	t.Logf("%.2f Mbit/s, %+v", got/1e6, seen)
	if got < 0.9*rate || got > 1.1*rate {
		t.Errorf("the line carried %.0f bit/s, want %d", got, rate)
	}
	const longest = queue * 8 * time.Second / rate
	if len(at) != seen.passed || seen.overflowed == 0 || seen.waited > longest || seen.waited < longest*9/10 {
		t.Errorf("%d packets arrived, and the line says %+v: want a queue that is full at %s", len(at), seen, longest)
	}
}

func TestALineLosesAndReordersAsOftenAsItSays(t *testing.T) {
	t.Parallel()
	const count = 2000
	w, a, b := newBareLine(t, conditions{delay: 5 * time.Millisecond, loss: 0.1, reorder: 0.02, late: 10 * time.Millisecond}, conditions{})
	from, to := udpPair(t, a, b)
	all := make(chan []uint32, 1)
	go func() {
		numbers, _ := arrivals(t, to, time.Second)
		all <- numbers
	}()
	numbered(t, from, count, 100, 200*time.Microsecond)
	numbers := <-all
	overtaken := 0
	for i, n := range numbers[1:] {
		if n < numbers[i] {
			overtaken++
		}
	}
	seen := w.up.traffic()
	t.Logf("%d of %d arrived, %d were overtaken, %+v", len(numbers), count, overtaken, seen)
	if len(numbers) != seen.passed || seen.lost < count*7/100 || seen.lost > count*13/100 {
		t.Errorf("%d of %d arrived, and the line says %+v", len(numbers), count, seen)
	}
	if overtaken == 0 || overtaken > count*5/100 {
		t.Errorf("%d of %d were overtaken, want about 2 in 100", overtaken, count)
	}
}

// TCP takes a damaged segment whose checksum is right, so that what runs on it
// has to notice.
func TestALineDamagesWhatTCPTakes(t *testing.T) {
	t.Parallel()
	const size = 3_000_001
	w, a, b := newBareLine(t, conditions{corrupt: 0.01}, conditions{})
	ln, err := listenIn(b, lineAddresses[1].String()+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	arrived := make(chan []byte, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			arrived <- nil
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		arrived <- all
	}()
	conn, err := dialIn(a, lineAddresses[1].String()+":9")
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("\x00\xff\x55"), size/3+1)[:size]
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	got := <-arrived
	if len(got) != size {
		t.Fatalf("%d of %d bytes arrived", len(got), size)
	}
	wrong := 0
	for i := range got {
		if got[i] != sent[i] {
			wrong++
		}
	}
	seen := w.up.traffic()
	t.Logf("%d bytes differ, %+v", wrong, seen)
	// A segment that was dropped after all would come again, in order.
	if seen.corrupted == 0 || wrong != seen.corrupted {
		t.Errorf("%d bytes differ, and the line damaged %d segments", wrong, seen.corrupted)
	}
}
