package inbound

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// httpReply is what a client of HTTP hears.
type httpReply struct {
	status int
	header http.Header
	body   string
}

// parseReply reads an HTTP answer to CONNECT.
func parseReply(b []byte) (*httpReply, error) {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &httpReply{res.StatusCode, res.Header, string(body)}, err
}

// checkAddress fails for what a Dial could misunderstand.
func checkAddress(t *testing.T, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	if err != nil || host == "" || len(host) > wire.MaxText || n < 1 || n > 65535 || net.JoinHostPort(host, strconv.Itoa(n)) != address {
		t.Errorf("dialled %q: %v", address, err)
	}
	if strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		t.Errorf("dialled %q", address)
	}
}

// FuzzClient feeds a Server anything. It never panics, always closes, says
// nothing that its protocol does not know, and hands on every byte that follows a
// request.
func FuzzClient(f *testing.F) {
	for _, w := range ways {
		f.Add([]byte(w.hello+"data"), len(w.hello)/2)
	}
	f.Add([]byte("\x05\x00"), 1)
	f.Add([]byte("\x05\x01\x00\x05\x02\x00\x01\x0a\x00\x00\x07\x00\x16"), 3)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 0)
	f.Fuzz(func(t *testing.T, said []byte, split int) {
		split = min(max(split, 0), len(said))
		client, target, address := play(t, said[:split:split], said[split:])
		heard := client.heard.Bytes()
		if target != nil {
			checkAddress(t, address)
			if !bytes.HasSuffix(said, target.heard.Bytes()) {
				t.Errorf("the target heard %q", target.heard.Bytes())
			}
		}
		if len(heard) == 0 {
			if target != nil {
				t.Error("joined without an answer")
			}
			return
		}
		switch said[0] {
		case 5:
			checkSOCKS5(t, heard, target != nil)
		case 4:
			if len(heard) != 8 || heard[0] != 0 || (heard[1] == 90) != (target != nil) || heard[1] != 90 && heard[1] != 91 {
				t.Errorf("socks4 says %q", heard)
			}
		default:
			res, err := parseReply(heard)
			if err != nil || (res.status == http.StatusOK) != (target != nil) {
				t.Errorf("http says %q: %v", heard, err)
			}
		}
	})
}

func checkSOCKS5(t *testing.T, heard []byte, joined bool) {
	t.Helper()
	method, reply := heard[:min(2, len(heard))], heard[min(2, len(heard)):]
	switch {
	case bytes.Equal(method, []byte{5, 0xff}) && len(reply) == 0 && !joined:
	case !bytes.Equal(method, []byte{5, 0}):
		t.Errorf("socks5 says %q", heard)
	case len(reply) == 0 && !joined:
	case len(reply) != 10 || reply[0] != 5 || reply[1] > 8 || (reply[1] == 0) != joined || !bytes.Equal(reply[2:], []byte{0, 1, 0, 0, 0, 0, 0, 0}):
		t.Errorf("socks5 says %q", heard)
	}
}

// FuzzSOCKS4 holds that what was read can be said again with the same meaning,
// and that nothing beyond the request was read.
func FuzzSOCKS4(f *testing.F) {
	for _, w := range ways {
		if w.protocol == SOCKS4 {
			f.Add([]byte(w.hello + "data"))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := newCaller(&script{parts: [][]byte{said}})
		address, err := readSOCKS4(c)
		if err != nil {
			return
		}
		checkAddress(t, address)
		rest, _ := io.ReadAll(c)
		if !bytes.HasSuffix(said, rest) || len(said)-len(rest) > 8+2*(socks4Text+1) {
			t.Errorf("%d of %d bytes are left", len(rest), len(said))
		}
		host, port, _ := net.SplitHostPort(address)
		n, _ := strconv.Atoi(port)
		again := append([]byte{4, 1, byte(n >> 8), byte(n), 0, 0, 0, 1, 0}, host+"\x00"...)
		if got, err := readSOCKS4(newCaller(&script{parts: [][]byte{again}})); got != address || err != nil {
			t.Errorf("%q, again %q: %v", address, got, err)
		}
	})
}

// FuzzCONNECT holds the same for HTTP, and the header's bound.
func FuzzCONNECT(f *testing.F) {
	for _, w := range ways {
		if w.protocol == CONNECT {
			f.Add([]byte(w.hello + "data"))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := newCaller(&script{parts: [][]byte{said}})
		address, err := readConnect(c)
		if err != nil {
			return
		}
		checkAddress(t, address)
		rest, _ := io.ReadAll(c)
		header := said[:len(said)-len(rest)]
		if !bytes.HasSuffix(said, rest) || len(header) > maxHeader || !bytes.HasSuffix(header, []byte("\n")) {
			t.Errorf("%q was read", header)
		}
		again := "CONNECT " + address + " HTTP/1.1\r\n\r\n"
		if got, err := readConnect(newCaller(&script{parts: [][]byte{[]byte(again)}})); got != address || err != nil {
			t.Errorf("%q, again %q: %v", address, got, err)
		}
	})
}
