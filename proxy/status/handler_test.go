package status

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

var (
	loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9470}
	anywhere = &net.TCPAddr{IP: net.IPv6unspecified, Port: 9470}
)

func text(s string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) })
}

func TestWhoGetsWhat(t *testing.T) {
	full := Config{Metrics: text("numbers"), Status: text("people"), Page: NewPage(nil, &Journal{}), Address: "gauges.internal:9470"}
	notReady := full
	notReady.Ready = func() error { return errors.Join(errors.New("the relay"), errors.New("is draining")) }
	isReady := full
	isReady.Ready = func() error { return nil }
	type header = map[string]string
	for name, c := range map[string]struct {
		addr   net.Addr
		cfg    Config
		method string // GET
		host   string // localhost:9470
		path   string
		header header
		code   int
		body   string // not checked when empty
	}{
		"lives":                     {path: "/healthz", code: 200, body: "ok\n"},
		"lives though not ready":    {cfg: notReady, path: "/healthz", code: 200, body: "ok\n"},
		"ready":                     {cfg: isReady, path: "/readyz", code: 200, body: "ready\n"},
		"ready unless told":         {path: "/readyz", code: 200, body: "ready\n"},
		"not ready, in one line":    {cfg: notReady, path: "/readyz", code: 503, body: "the relay is draining\n"},
		"metrics":                   {path: "/metrics", code: 200, body: "numbers"},
		"no metrics":                {cfg: Config{Ready: isReady.Ready}, path: "/metrics", code: 404},
		"status on loopback":        {path: "/status", code: 200, body: "people"},
		"no status yet":             {cfg: Config{Metrics: text("")}, path: "/status", code: 404},
		"status for everyone":       {addr: anywhere, path: "/status", host: "gauges.internal", code: 404},
		"page":                      {path: "/", code: 200, body: page()},
		"page, header only":         {method: "HEAD", path: "/", code: 200},
		"no page":                   {cfg: Config{Metrics: text("")}, path: "/", code: 404},
		"page for everyone":         {addr: anywhere, path: "/", host: "gauges.internal", code: 404},
		"page, rebound name":        {path: "/", host: "evil.example:9470", code: 403},
		"page in another site's":    {path: "/", header: header{"Sec-Fetch-Site": "cross-site"}, code: 403},
		"POST to the page":          {method: "POST", path: "/", code: 405},
		"beside the page":           {path: "/index.html", code: 404},
		"events, header only":       {method: "HEAD", path: "/events", code: 200},
		"no events":                 {cfg: Config{Metrics: text("")}, path: "/events", code: 404},
		"events for everyone":       {addr: anywhere, path: "/events", host: "gauges.internal", code: 404},
		"events, rebound name":      {path: "/events", host: "evil.example:9470", code: 403},
		"events for another site":   {path: "/events", header: header{"Sec-Fetch-Site": "same-site"}, code: 403},
		"events, another origin":    {path: "/events", header: header{"Origin": "http://localhost:3000"}, code: 403},
		"POST to the events":        {method: "POST", path: "/events", code: 405},
		"below the events":          {path: "/events/", code: 404},
		"pprof":                     {path: "/debug/pprof/", code: 404},
		"below":                     {path: "/metrics/", code: 404},
		"dots":                      {path: "/x/../metrics", code: 404},
		"HEAD":                      {method: "HEAD", path: "/healthz", code: 200},
		"POST":                      {method: "POST", path: "/metrics", code: 405},
		"OPTIONS":                   {method: "OPTIONS", path: "/metrics", code: 405},
		"DELETE nowhere":            {method: "DELETE", path: "/nowhere", code: 405},
		"by address":                {host: "127.0.0.1:9470", path: "/metrics", code: 200},
		"by address without port":   {host: "127.0.0.1", path: "/metrics", code: 200},
		"by IPv6":                   {host: "[::1]:9470", path: "/metrics", code: 200},
		"by IPv6 without port":      {host: "[::1]", path: "/metrics", code: 200},
		"by name without port":      {host: "localhost", path: "/metrics", code: 200},
		"by name in capitals":       {host: "LocalHost.:9470", path: "/metrics", code: 200},
		"through a forward":         {host: "localhost:8080", path: "/metrics", code: 200},
		"by the configured name":    {host: "gauges.internal:9470", path: "/metrics", code: 200},
		"rebound name":              {host: "evil.example:9470", path: "/metrics", code: 403},
		"rebound name, health":      {host: "evil.example", path: "/healthz", code: 403},
		"name that begins right":    {host: "localhost.evil.example", path: "/metrics", code: 403},
		"address as a name":         {host: "127.0.0.1.evil.example:9470", path: "/metrics", code: 403},
		"another address":           {host: "192.0.2.1:9470", path: "/metrics", code: 403},
		"no host":                   {host: "-", path: "/metrics", code: 403},
		"no host nor configuration": {cfg: Config{Metrics: text("")}, host: "-", path: "/metrics", code: 403},
		"any host elsewhere":        {addr: anywhere, host: "relay.example.com:9470", path: "/metrics", code: 200},
		"any host, health":          {addr: anywhere, host: "10.1.2.3", path: "/healthz", code: 200},
		"any host, readiness":       {addr: anywhere, host: "-", path: "/readyz", code: 200},
		"a page of another site":    {path: "/metrics", header: header{"Sec-Fetch-Site": "cross-site"}, code: 403},
		"a page of another port":    {path: "/metrics", header: header{"Sec-Fetch-Site": "same-site"}, code: 403},
		"typed into the browser":    {path: "/metrics", header: header{"Sec-Fetch-Site": "none"}, code: 200},
		"own page":                  {path: "/metrics", header: header{"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:9470"}, code: 200},
		"another origin":            {path: "/metrics", header: header{"Origin": "http://evil.example"}, code: 403},
		"another origin's port":     {path: "/metrics", header: header{"Origin": "http://localhost:3000"}, code: 403},
		"no origin to speak of":     {path: "/metrics", header: header{"Origin": "null"}, code: 403},
		"cross-site elsewhere":      {addr: anywhere, path: "/metrics", header: header{"Sec-Fetch-Site": "cross-site"}, code: 403},
	} {
		t.Run(name, func(t *testing.T) {
			if c.addr == nil {
				c.addr = loopback
			}
			if c.cfg.Metrics == nil && c.cfg.Ready == nil {
				c.cfg = full
			}
			if c.method == "" {
				c.method = http.MethodGet
			}
			r := httptest.NewRequest(c.method, "http://localhost:9470/", http.NoBody)
			r.URL.Path = c.path
			switch c.host {
			case "":
			case "-":
				r.Host = ""
			default:
				r.Host = c.host
			}
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			NewHandler(c.addr, c.cfg).ServeHTTP(w, r)
			if w.Code != c.code || c.body != "" && w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.code, c.body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("headers %v", w.Header())
			}
			if c.code == http.StatusMethodNotAllowed && w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("allow %q", w.Header().Get("Allow"))
			}
		})
	}
}

func TestEveryLoopbackListenerIsRecognised(t *testing.T) {
	for addr, want := range map[net.Addr]bool{
		loopback: true,
		&net.TCPAddr{IP: net.IPv6loopback, Port: 1}:       true,
		&net.TCPAddr{IP: net.IPv4(127, 9, 9, 9), Port: 1}: true,
		anywhere: false,
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}:        false,
		&net.UnixAddr{Name: "/run/user/1000/admin", Net: "unix"}: false,
	} {
		h, ok := NewHandler(addr, Config{}).(*handler)
		if !ok || h.loopback != want {
			t.Errorf("%v: %v, want %v", addr, h.loopback, want)
		}
	}
}

// FuzzHost: whatever a Host header holds, a name that is not ours gets nothing,
// and a port changes nothing.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"localhost", "127.0.0.1", "[::1]", "::1", "evil.example", "", "localhost:1:2", "[::ffff:127.0.0.1]", "127.0.0.1%lo", "[", "a]b"} {
		f.Add(s)
	}
	h := &handler{loopback: true, own: "gauges.internal"}
	f.Fuzz(func(t *testing.T, host string) {
		own := h.isOwn(host)
		if _, _, err := net.SplitHostPort(host); err != nil && h.isOwn(net.JoinHostPort(hostOf(host), "9470")) != own {
			t.Errorf("%q: %v, and otherwise with a port", host, own)
		}
		if !own {
			return
		}
		name := hostOf(host)
		ip := net.ParseIP(name)
		if name != "localhost" && name != "gauges.internal" && (ip == nil || !ip.IsLoopback()) {
			t.Errorf("%q is taken for ours", host)
		}
	})
}
