package status

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// TestThePageIsOneFileThatRunsNothingElse: its policy lets exactly its own script
// and style through, and it names nothing to load.
func TestThePageIsOneFileThatRunsNothingElse(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:9470/", http.NoBody)
	NewHandler(loopback, Config{Page: NewPage(nil, &Journal{})}).ServeHTTP(w, r)
	body, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
	for tag, directive := range map[string]string{"script": "script-src", "style": "style-src"} {
		found := regexp.MustCompile(`(?s)<`+tag+`[^>]*>(.*?)</`+tag+`>`).FindAllStringSubmatch(body, -1)
		if len(found) != 1 || len(found[0][1]) < 1000 {
			t.Fatalf("%d of %s", len(found), tag)
		}
		if want := directive + " " + hashOf(found[0][1]) + ";"; !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Error(policy)
	}
	for name, never := range map[string]string{
		"an asset":                    `<(script|img|link|iframe|object|embed)[^>]+(src|href)="?(https?:|//|/)`,
		"an address elsewhere":        `(https?:)?//[a-z0-9-]+\.[a-z]`,
		"an inline handler or style":  `<[a-z]+[^>]* (on[a-z]+|style)=`,
		"a sink that reads markup":    `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|new Function`,
		"something it could do there": `<form|method:|POST|sendBeacon|localStorage|cookie`,
	} {
		text := strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "") // a name
		if found := regexp.MustCompile(never).FindString(text); found != "" {
			t.Errorf("%s: %q", name, found)
		}
	}
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Error(got)
	}
}

// streamed asks for the events on c.
func streamed(t *testing.T, c net.Conn) (code int, header http.Header, body *bufio.Reader) {
	t.Helper()
	fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() }) // c is closed by then
	return r.StatusCode, r.Header, bufio.NewReader(r.Body)
}

// next reads one message.
func next(t *testing.T, r *bufio.Reader) update {
	t.Helper()
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	data, ok := bytes.CutPrefix(line, []byte("data: "))
	if blank, err := r.ReadString('\n'); !ok || err != nil || blank != "\n" {
		t.Fatalf("%q, then %q, %v", line, blank, err)
	}
	var u update
	if err := json.Unmarshal(data, &u); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return u
}

func TestAStreamTellsAtOnceAndEverySecondForHours(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		var j Journal
		j.Write(LinkUp, "link up")
		served := make(chan error, 1)
		h := NewHandler(p.Addr(), Config{Page: NewPage(full, &j)})
		go func() { served <- Serve(ctx, p, h, nil) }()
		c := p.dial()
		_, header, r := streamed(t, c)
		if header.Get("Content-Type") != "text/event-stream" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", header)
		}
		u := next(t, r)
		if !u.First || len(u.Events) != 1 || u.Status.Schema != Schema || u.Totals.Links != 2 || u.Totals.Missing != 1 || u.Totals.States[Detached] != 1 {
			t.Errorf("%+v", u)
		}
		start := time.Now()
		for range 3 * 3600 {
			if u = next(t, r); u.First || len(u.Events) > 0 {
				t.Fatalf("%+v", u)
			}
		}
		if d := time.Since(start); d != 3*time.Hour {
			t.Errorf("three hours of updates took %v", d)
		}
		synctest.Wait()
		time.Sleep(updateGap)
		start = time.Now()
		j.Write(LinkLost, "link lost: reset")
		if u = next(t, r); len(u.Events) != 1 || u.Events[0].Kind != LinkLost || time.Since(start) != 0 {
			t.Errorf("%+v after %v", u, time.Since(start))
		}
		start = time.Now()
		j.Write(LinkUp, "link up")
		if u = next(t, r); len(u.Events) != 1 || time.Since(start) != updateGap {
			t.Errorf("%+v after %v", u, time.Since(start))
		}
		cancel()
		start = time.Now()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 500*time.Millisecond { // http.Server looks now and then
			t.Errorf("an open stream held the end up for %v", d)
		}
		c.Close()
	})
}

// TestABrowserThatDoesNotReadIsCutOff: it would hold a place for ever.
func TestABrowserThatDoesNotReadIsCutOff(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		var j Journal
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, p, NewHandler(p.Addr(), Config{Page: NewPage(full, &j)}), nil) }()
		c := p.dial()
		fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		synctest.Wait()
		listening := func() int {
			j.mu.Lock()
			defer j.mu.Unlock()
			return len(j.listeners)
		}
		if n := listening(); n != 1 {
			t.Fatalf("%d listen", n)
		}
		time.Sleep(time.Hour)
		if n := listening(); n != 0 {
			t.Errorf("%d listen", n)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

func TestPagesAreBounded(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPipes()
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, p, NewHandler(p.Addr(), Config{Page: NewPage(full, &Journal{})}), nil)
		}()
		var all []net.Conn
		for i := range maxListeners + 1 {
			c := p.dial()
			all = append(all, c)
			want := http.StatusOK
			if i == maxListeners {
				want = http.StatusServiceUnavailable
			}
			if code, _, _ := streamed(t, c); code != want {
				t.Errorf("page %d: %d, want %d", i, code, want)
			}
		}
		all[0].Close()
		synctest.Wait()
		time.Sleep(2 * updateTime)
		c := p.dial()
		if code, _, _ := streamed(t, c); code != http.StatusOK {
			t.Errorf("%d though one has left", code)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, c := range append(all, c) {
			c.Close()
		}
	})
}

// TestTheFrontOfAHugeRelayIsSmall: counts, those in trouble, then the oldest.
func TestTheFrontOfAHugeRelayIsSmall(t *testing.T) {
	s := &Snapshot{Schema: Schema, Role: "relay"}
	for i := range 10_000 {
		l := Link{Address: fmt.Sprintf("192.0.2.7:%d", i), Age: Seconds(i) * Seconds(time.Second)}
		v := Session{ID: fmt.Sprintf("%032d", i), Target: "db:22", Age: Seconds(i) * Seconds(time.Second), State: Attached}
		if i == 5 {
			l.Row, v.State = 2, Detached
		}
		s.Links, s.Sessions = append(s.Links, l), append(s.Sessions, v)
	}
	f, n := s.front()
	if n.Links != 10_000 || n.Sessions != 10_000 || n.Missing != 1 || n.States[Attached] != 9999 || n.States[Detached] != 1 {
		t.Errorf("%+v", n)
	}
	if len(f.Links) != maxRows || len(f.Sessions) != maxRows {
		t.Fatalf("%d links, %d sessions", len(f.Links), len(f.Sessions))
	}
	if f.Links[0].Address != "192.0.2.7:9999" || f.Links[maxRows-1].Row != 2 || f.Sessions[maxRows-1].State != Detached {
		t.Errorf("%+v, %+v, %+v", f.Links[0], f.Links[maxRows-1], f.Sessions[maxRows-1])
	}
	text, err := json.Marshal(f)
	if err != nil || len(text) > 64<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestAFrontIsOfVisibleCharacters(t *testing.T) {
	const evil = "a\x1b\n\u202e\u200b<b>"
	s := full()
	s.Relay, s.DialError, s.LastLost.Error = evil, &Event{Text: evil}, evil
	s.Links[0].Agent, s.Links[0].Address, s.Sessions[0].Target = evil, evil, evil
	f, _ := s.front()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Snapshot
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(back.Relay+back.DialError.Text+back.LastLost.Error+back.Links[0].Agent+back.Links[1].Agent+back.Sessions[0].Target, "\x1b\n\u202e\u200b") {
		t.Errorf("%s", text)
	}
}

func TestTheLogSaysWhereThePageIs(t *testing.T) {
	for addr, want := range map[net.Addr]string{
		loopback: "level=INFO msg=listening address=127.0.0.1:9470 for=\"metrics and health\" page=http://127.0.0.1:9470/\n",
		&net.TCPAddr{IP: net.IPv6loopback, Port: 80}: "level=INFO msg=listening address=[::1]:80 for=\"metrics and health\" page=http://[::1]:80/\n",
		anywhere: "level=INFO msg=listening address=[::]:9470 for=\"metrics and health\"\n",
	} {
		var b bytes.Buffer
		LogListening(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})), addr)
		if got := b.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// BenchmarkFront: what a page costs a relay of ten thousand links once a second,
// beside the snapshot itself.
func BenchmarkFront(b *testing.B) {
	s := &Snapshot{Schema: Schema, Role: "relay"}
	for i := range 10_000 {
		s.Links = append(s.Links, Link{Address: fmt.Sprintf("192.0.2.7:%d", i), Age: Seconds(i*7919%10_000) * Seconds(time.Second)})
		s.Sessions = append(s.Sessions, Session{ID: fmt.Sprintf("%032d", i), Target: "db:22", Age: Seconds(i*7919%10_000) * Seconds(time.Second), State: Attached})
	}
	for b.Loop() {
		c := *s
		c.Links, c.Sessions = append([]Link(nil), s.Links...), append([]Session(nil), s.Sessions...)
		c.front()
	}
}
