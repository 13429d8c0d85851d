package inbound

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strconv"
)

// SOCKS4 and 4a as their two memos have them: version, command, port, address,
// user id, NUL; an address 0.0.0.x with x not 0 means that a name, NUL follows.
const (
	socks4Connect  = 1
	socks4Granted  = 90
	socks4Rejected = 91
	// socks4Text is the longest user id, and the longest name, in bytes.
	socks4Text = 255
)

// readSOCKS4 reads a request. The user id is read and ignored: anyone may claim
// any.
func readSOCKS4(c *caller) (address string, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return "", fmt.Errorf("socks4: %w", err)
	}
	command, port := head[1], binary.BigEndian.Uint16(head[2:])
	ip := [4]byte(head[4:])
	if _, err := readText(c.r, "user id"); err != nil {
		return "", err
	}
	host := netip.AddrFrom4(ip).String()
	if ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0 {
		if host, err = readText(c.r, "name"); err != nil {
			return "", err
		}
	}
	if c.login != nil {
		return "", badRequest("socks4: it has no password, and proxy.socks_user wants one: use SOCKS5")
	}
	if command != socks4Connect {
		return "", badRequest("socks4: command %d, only CONNECT is known", command)
	}
	return targetOf(host, strconv.Itoa(int(port)))
}

// readText reads up to a NUL.
func readText(r *bufio.Reader, what string) (string, error) {
	var text [socks4Text]byte
	for n := 0; ; n++ {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return "", fmt.Errorf("socks4: %s: %w", what, err)
		case b == 0:
			return string(text[:n]), nil
		case n == len(text):
			return "", badRequest("socks4: %s of more than %d bytes", what, socks4Text)
		}
		text[n] = b
	}
}

// replySOCKS4 says granted or rejected. SOCKS4 knows no reasons.
func replySOCKS4(err error) []byte {
	code := byte(socks4Granted)
	if err != nil {
		code = socks4Rejected
	}
	return []byte{0, code, 0, 0, 0, 0, 0, 0}
}
