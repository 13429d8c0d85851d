package status

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The page's parts.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// A checkout may have put a return before each newline. A browser drops them before
// it compares the hash.
func init() {
	for _, part := range []*string{&pageCSS, &pageJS} {
		*part = strings.ReplaceAll(*part, "\r\n", "\n")
	}
}

// page is the document that a browser gets, and the policy that goes with it: only
// this very script and style count, whatever a name in it looks like, and nothing
// is loaded from or sent to anywhere else.
var page, pagePolicy = sync.OnceValue(func() string {
	return strings.NewReplacer("/*page.css*/", pageCSS, "/*page.js*/", pageJS).Replace(pageHTML)
}), sync.OnceValue(func() string {
	return strings.Join([]string{
		"default-src 'none'", "script-src " + hashOf(pageJS), "style-src " + hashOf(pageCSS), "img-src data:", "connect-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; ")
})

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// LogListening says that addr is listened on and, where there is one, where a
// person finds the page.
func LogListening(log *slog.Logger, addr net.Addr) {
	line := []any{"address", addr.String(), "for", "metrics and health"}
	if isLoopback(addr) {
		line = append(line, "page", "http://"+addr.String()+"/")
	}
	log.Info("listening", line...)
}

func isLoopback(addr net.Addr) bool {
	a, err := netip.ParseAddrPort(addr.String())
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// Page answers / with the status page and /events with what it shows, as
// server-sent events.
type Page struct {
	take    func() *Snapshot
	journal *Journal
	over    chan struct{} // closed by end
	end     func()        // ends every stream

	// mu guards all below, and lets one caller take a snapshot for all.
	mu     sync.Mutex
	status *Snapshot
	totals totals
	taken  time.Time
	took   time.Duration
}

// NewPage returns a page that shows what take returns, which is not used by
// anybody else, and what j has.
func NewPage(take func() *Snapshot, j *Journal) *Page {
	p := &Page{take: take, journal: j, over: make(chan struct{})}
	p.end = sync.OnceFunc(func() { close(p.over) })
	return p
}

// ServeHTTP answers / and /events.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Security-Policy", pagePolicy())
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page()) // who asked has gone
	case "/events":
		p.stream(w, r)
	default:
		http.NotFound(w, r)
	}
}
