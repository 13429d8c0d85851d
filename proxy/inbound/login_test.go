package inbound

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/proxy"
)

func TestALoginIsAskedFor(t *testing.T) {
	login := &Login{User: "me", Password: "s:ecret"}
	r := newRig(t, &Server{Login: login}, "")
	for _, tt := range []struct {
		user, password string
		in             bool
	}{{"me", "s:ecret", true}, {"me", "secret", false}, {"you", "s:ecret", false}, {"me", "", false}} {
		d, err := proxy.SOCKS5("tcp", r.address, &proxy.Auth{User: tt.user, Password: tt.password}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial("tcp", "db:22")
		if (err == nil) != tt.in {
			t.Errorf("SOCKS5 as %s, %q: %v", tt.user, tt.password, err)
		}
		if err == nil {
			next(t, r.targets).Close()
			c.Close()
		} else {
			next(t, r.refused)
		}
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(tt.user+":"+tt.password))
		status, challenge := connectAs(t, r, basic)
		if (status == http.StatusOK) != tt.in || !tt.in && (status != http.StatusProxyAuthRequired || !strings.HasPrefix(challenge, "Basic ")) {
			t.Errorf("CONNECT as %s, %q: %d %q", tt.user, tt.password, status, challenge)
		}
	}
	for _, header := range []string{"", "Basic", "Basic !", "Bearer " + base64.StdEncoding.EncodeToString([]byte("me:s:ecret"))} {
		if status, _ := connectAs(t, r, header); status != http.StatusProxyAuthRequired {
			t.Errorf("CONNECT with %q: %d", header, status)
		}
	}

	// Without a password there is no way in.
	if d, err := proxy.SOCKS5("tcp", r.address, nil, nil); err != nil {
		t.Fatal(err)
	} else if _, err := d.Dial("tcp", "db:22"); err == nil {
		t.Error("SOCKS5 without a password")
	}
	next(t, r.refused)
	c := tcpDial(t, r.address)
	defer c.Close()
	c.Write([]byte("\x04\x01\x00\x16\x00\x00\x00\x01me\x00db\x00"))
	expect(t, c, string(replySOCKS4(badRequest("no"))))
	next(t, r.refused)
}

// connectAs asks for a target and returns the answer's status and challenge.
func connectAs(t *testing.T, r *rig, authorization string) (status int, challenge string) {
	t.Helper()
	c := tcpDial(t, r.address)
	defer c.Close()
	header := "CONNECT db:22 HTTP/1.1\r\nHost: db:22\r\n"
	if authorization != "" {
		header += "Proxy-Authorization: " + authorization + "\r\n"
	}
	if _, err := c.Write([]byte(header + "\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := parseReply(answer[:n])
	if err != nil {
		t.Fatal(err)
	}
	if reply.status == http.StatusOK {
		next(t, r.targets).Close()
	} else {
		next(t, r.refused)
	}
	return reply.status, reply.header.Get("Proxy-Authenticate")
}
