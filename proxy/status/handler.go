package status

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Config is what is told at the admin address. The zero Config tells that the
// process lives.
type Config struct {
	// Metrics answers /metrics. Nil: not found.
	Metrics http.Handler
	// Status answers /status, on a loopback address only: it names people and
	// hosts. Nil: not found.
	Status http.Handler
	// Page answers / and /events, on a loopback address only, as Status. Nil: not
	// found.
	Page *Page
	// Ready is nil when the process does its work, else it says in one line why
	// not. A nil Ready is always ready.
	Ready func() error
	// Address is the admin address as it was configured. Its host is one that a
	// request may be for, beside the address that is listened on.
	Address string
}

// handler is the admin address's.
type handler struct {
	cfg      Config
	loopback bool   // nobody but this machine reaches it
	own      string // the configured host
}

// NewHandler returns what answers at addr, a listener's address.
func NewHandler(addr net.Addr, cfg Config) http.Handler {
	return &handler{cfg: cfg, own: hostOf(cfg.Address), loopback: isLoopback(addr)}
}

// ServeHTTP answers GET and HEAD, to those who may ask.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	switch {
	case h.loopback && !h.isOwn(r.Host):
		http.Error(w, "this host is not served here", http.StatusForbidden)
	case isCrossSite(r):
		http.Error(w, "not for other sites", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "GET and HEAD only", http.StatusMethodNotAllowed)
	default:
		h.route(w, r)
	}
}

func (h *handler) route(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz":
		say(w, http.StatusOK, "ok")
	case r.URL.Path == "/readyz":
		h.readiness(w)
	case r.URL.Path == "/metrics" && h.cfg.Metrics != nil:
		h.cfg.Metrics.ServeHTTP(w, r)
	case r.URL.Path == "/status" && h.cfg.Status != nil && h.loopback:
		h.cfg.Status.ServeHTTP(w, r)
	case (r.URL.Path == "/" || r.URL.Path == "/events") && h.cfg.Page != nil && h.loopback:
		h.cfg.Page.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (h *handler) readiness(w http.ResponseWriter) {
	if h.cfg.Ready != nil {
		if err := h.cfg.Ready(); err != nil {
			say(w, http.StatusServiceUnavailable, strings.Join(strings.Fields(err.Error()), " "))
			return
		}
	}
	say(w, http.StatusOK, "ready")
}

// say answers one line.
func say(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, line+"\n")
}

// isOwn reports whether a Host header names this end of a loopback address. A
// page of another site that makes its own name resolve to 127.0.0.1 (DNS
// rebinding) is given away by that name. The port does not matter: it is
// another's where it is forwarded.
func (h *handler) isOwn(host string) bool {
	host = hostOf(host)
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback() || host == h.own
	}
	return host != "" && (host == "localhost" || host == h.own)
}

// hostOf is the host of HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, in lower case.
func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	} else {
		s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

// isCrossSite reports whether a browser sent r for a page of another origin.
// What is not a browser sends neither header.
func isCrossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origins := r.Header.Values("Origin")
	return len(origins) > 1 || len(origins) == 1 && !strings.EqualFold(origins[0], "http://"+r.Host)
}
