package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

const (
	// maxHeader is the longest header of an HTTP request, in bytes.
	maxHeader = 16 << 10
	// maxReason is the longest reason in an answer, in bytes.
	maxReason = 512
)

// readConnect reads CONNECT HOST:PORT (RFC 9110 §9.3.6). What a header says
// beside the target is ignored, credentials too unless they are asked for; what
// follows it belongs to the target.
func readConnect(c *caller) (address string, err error) {
	header, err := readHeader(c.r)
	if err != nil {
		return "", err
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(header)))
	switch {
	case err != nil:
		return "", badRequest("http: %v", err)
	case r.Method != http.MethodConnect:
		return "", &requestError{http.StatusMethodNotAllowed, "this is a proxy for CONNECT only"}
	case r.ProtoMajor != 1:
		return "", badRequest("http: version %d.%d, only 1.x is known", r.ProtoMajor, r.ProtoMinor)
	}
	if c.login != nil {
		if err := c.login.basic(r.Header); err != nil {
			return "", err
		}
	}
	return parseTarget(r.RequestURI)
}

// readHeader reads up to and with the first empty line.
func readHeader(r *bufio.Reader) ([]byte, error) {
	var header []byte
	for start := 0; ; { // of the line
		part, err := r.ReadSlice('\n')
		if len(header)+len(part) > maxHeader {
			return nil, &requestError{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("http: header of more than %d bytes", maxHeader)}
		}
		header = append(header, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, fmt.Errorf("http: %w", err)
		}
		if len(bytes.TrimRight(header[start:], "\r\n")) == 0 {
			return header, nil
		}
		start = len(header)
	}
}

// replyConnect answers with a status, and one line for a person when err is not
// nil.
func replyConnect(err error) []byte {
	if err == nil {
		return []byte("HTTP/1.1 200 Connection established\r\n\r\n")
	}
	status, more := connectStatus(err), ""
	switch status {
	case http.StatusMethodNotAllowed:
		more = "Allow: CONNECT\r\n"
	case http.StatusProxyAuthRequired:
		more = "Proxy-Authenticate: Basic realm=\"sshka-proxy\", charset=\"UTF-8\"\r\n"
	}
	body := oneLine(err.Error()) + "\n"
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), more, len(body), body)
}

// connectStatus is the status for err: 502 where the relay tried, 503 where
// nobody did.
func connectStatus(err error) int {
	var bad *requestError
	if errors.As(err, &bad) {
		return bad.status
	}
	switch refusalCode(err) {
	case wire.CodeNotAllowed:
		return http.StatusForbidden
	case wire.CodeTimeout:
		return http.StatusGatewayTimeout
	case 0, wire.CodeBusy, wire.CodeSlowDown, wire.CodeShuttingDown:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadGateway
	}
}

// oneLine makes a text that others had a part in safe to show.
func oneLine(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
