package test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packet is a TCP segment over IPv4.
type packet struct {
	at      time.Time // by the kernel, so a busy machine does not blur it
	dstPort int
	payload int // bytes
}

// capture records the TCP segments that pass an interface.
type capture struct {
	fd      int
	stop    chan struct{}
	packets chan []packet
}

// capture starts to record. It ends by end or with the test.
func (l *lab) capture(t *testing.T, r role, device string) *capture {
	t.Helper()
	c := &capture{stop: make(chan struct{}), packets: make(chan []packet, 1)}
	l.check(inNamespace(l.ns(r), func() (err error) {
		c.fd, err = openPacketSocket(device)
		return err
	}))
	go c.record()
	t.Cleanup(func() { c.end() })
	return c
}

func openPacketSocket(device string) (int, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// The timeout lets record see that it shall stop.
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) },
		func() error {
			return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
		},
		func() error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: link.Index})
		},
	} {
		if err := set(); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// end stops recording and returns what passed. Later calls return nil.
func (c *capture) end() []packet {
	select {
	case <-c.stop:
		return nil
	default:
	}
	close(c.stop)
	return <-c.packets
}

func (c *capture) record() {
	defer unix.Close(c.fd)
	var packets []packet
	buf, control := make([]byte, 256), make([]byte, 256)
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, buf, control, 0)
		if err == nil {
			if p, ok := parseTCP(buf[:n]); ok {
				p.at = timestamp(control[:oobn])
				packets = append(packets, p)
			}
			continue
		}
		select {
		case <-c.stop:
			c.packets <- packets
			return
		default:
		}
	}
}

// parseTCP reads the headers of an IPv4 packet, of which the rest may be missing.
func parseTCP(b []byte) (packet, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return packet{}, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < header+20 {
		return packet{}, false
	}
	tcp := b[header:]
	return packet{
		dstPort: int(binary.BigEndian.Uint16(tcp[2:])),
		payload: total - header - int(tcp[12]>>4)*4,
	}, true
}

func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		}
	}
	return time.Time{}
}
