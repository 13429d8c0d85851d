package test

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"
)

const (
	proxyPage = "http://127.0.0.1:9470/"
	relayPage = "http://127.0.0.1:9471/"

	// screenshotEnv names a file for the screenshot of docs/operations.md.
	screenshotEnv = "SSHKA_SCREENSHOT"
	maxScreenshot = 150 << 10 // bytes
)

// dots is how many beats the plot shows, misses how many seconds with misses.
const (
	dots   = `(document.querySelector("#plot .dots").getAttribute("d").match(/h0/g) || []).length`
	misses = `(document.querySelector("#plot .misses").getAttribute("d").match(/M/g) || []).length`
)

func TestTheStatusPage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needTools(t, "chromium")
	w := l.lengthen(t, conditions{delay: 6 * time.Millisecond}, conditions{delay: 6 * time.Millisecond})
	beats := settings{"heartbeat": "{interval: 1s, timeout: 2s, count_max: 3}"} // a browser keeps the machine busy
	l.startRelay(t, relayPort, nil)                                             // its own beats, each minute, spare the proxy few
	daemon := l.startDaemon(t, beats)
	daemon.expectLog(`"page":"` + proxyPage + `"`)
	b := l.browse(t, client)
	b.do(chromedp.Navigate(proxyPage))
	b.shows("#state", "Link to 198.51.100.10:7422 is up")
	b.shows("#log", "link up: 198.51.100.10:7422")

	// A beat moves the plot.
	n := evaluated[int](b, dots)
	b.until(func() bool { return evaluated[int](b, dots) >= n+2 }, func() string { return "the plot stands still" })
	b.shows("#summary", "missed. Round trip: last ")

	// Sessions appear: one of the daemon's own, one of another process.
	own := l.ssh(t, append(l.passing(t, nil), targetIP, "cat")...)
	others := l.ssh(t, l.through(t, nil), targetIP, "cat")
	for _, p := range []*process{own, others} {
		p.send("before\n")
		p.expect("before")
	}
	b.shows("#sessions-more", "In all: 2 attached.")
	if got := evaluated[int](b, `document.querySelectorAll("#sessions tbody tr").length`); got != 2 {
		t.Errorf("%d rows of sessions, want 2", got)
	}
	b.shows("#sessions", strconv.Itoa(others.child("sshka-proxy")))
	if opened := strings.Count(b.text("#log"), "to "+targetIP+":22 opened"); opened != 2 {
		t.Errorf("%d sessions were opened, want 2:\n%s", opened, b.text("#log"))
	}

	// A cut link shows, and that it is there again.
	l.refuse(true)
	l.cutLinks(t)
	if took := b.shows("#state", "No link to 198.51.100.10:7422, it is being dialled"); took > 2*time.Second {
		t.Errorf("a cut link shows after %s", took)
	} else {
		t.Logf("a cut link shows after %s", took)
	}
	b.shows("#log", "link lost: reset")
	b.shows("#sessions-more", "In all: 2 detached.")
	l.refuse(false)
	b.shows("#state", "is up")
	b.shows("#sessions-more", "In all: 2 attached.")
	for _, want := range []string{"resumed after", "paused", fmt.Sprintf("process %d has left the link, or lost it", others.child("sshka-proxy"))} {
		b.shows("#log", want)
	}

	// So does a beat that is missed, before the link is lost.
	missed := evaluated[int](b, misses)
	w.set(conditions{hole: true})
	b.shows("#state", "is in doubt: a beat was missed")
	b.until(func() bool { return evaluated[int](b, misses) > missed }, func() string { return "the plot shows no miss" })
	w.set(conditions{delay: 6 * time.Millisecond})
	b.shows("#state", "is up")
	b.shows("#log", "beat missed")
	b.shows("#sessions-more", "In all: 2 attached.")

	t.Run("who comes later sees what was", func(t *testing.T) {
		before := evaluated[int](b, dots)
		b.do(chromedp.Reload())
		b.shows("#log", "link lost: reset")
		if got := evaluated[int](b, dots); got < before {
			t.Errorf("%d beats, before the reload %d", got, before)
		}
	})
	t.Run("light and dark", func(t *testing.T) {
		grounds := map[string]bool{}
		for _, scheme := range []string{"dark", "light"} {
			b.scheme(scheme)
			grounds[evaluated[string](b, `getComputedStyle(document.body).backgroundColor`)] = true
			for _, width := range []int64{320, 1000} {
				b.do(chromedp.EmulateViewport(width, 900))
				if pale := evaluated[[]string](b, paleText); len(pale) > 0 {
					t.Errorf("%s, %d wide: contrast below 4.5:1 (WCAG AA): %q", scheme, width, pale)
				}
			}
		}
		if len(grounds) != 2 {
			t.Errorf("both have the ground %v", grounds)
		}
	})
	t.Run("on every screen", func(t *testing.T) {
		for _, width := range []int64{320, 400, 700, 800, 1000, 1600} {
			b.do(chromedp.EmulateViewport(width, 700))
			if got := evaluated[int64](b, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("%d wide on a screen of %d", got, width)
			}
			if wide := evaluated[[]string](b, cutText); len(wide) > 0 {
				t.Errorf("%d wide: does not fit: %q", width, wide)
			}
		}
		b.do(chromedp.EmulateViewport(1000, 900))
	})
	t.Run("without a mouse", func(t *testing.T) { withoutMouse(t, b) })
	t.Run("for a reader of screens", func(t *testing.T) {
		for what, expression := range map[string]string{
			"a table without caption or headings":  `[...document.querySelectorAll("table")].filter(t => !t.caption || t.querySelectorAll("thead th[scope=col]").length !== t.rows[1].cells.length).map(t => t.outerHTML)`,
			"a row without a heading":              `[...document.querySelectorAll("tbody tr")].filter(r => !r.querySelector("th[scope=row]")).map(r => r.outerHTML)`,
			"a section without a name":             `[...document.querySelectorAll("section, nav")].filter(s => !s.ariaLabel && !document.getElementById(s.getAttribute("aria-labelledby"))).map(s => s.outerHTML)`,
			"a time without its exact value":       `[...document.querySelectorAll("time")].filter(s => !s.title || isNaN(Date.parse(s.dateTime))).map(s => s.outerHTML)`,
			"a plot without a text in its place":   `[document.querySelector("#plot")].filter(s => s.getAttribute("role") !== "img" || !document.getElementById(s.getAttribute("aria-labelledby")).textContent.includes("beats answered")).map(s => s.outerHTML)`,
			"a state that is not said aloud":       `["header", "main", "footer", "h1", "#state[aria-live=polite]", "html[lang]"].filter(s => document.querySelectorAll(s).length !== 1)`,
			"a state that is said every second":    `[document.querySelector("#state").textContent].filter(s => /\d+(s|m|h)\b| ago/.test(s))`,
			"two elements of one name":             `[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i)`,
			"a heading that skips a level":         `[...document.querySelectorAll("h3, h4, h5, h6")].map(h => h.outerHTML)`,
			"something loaded from somewhere else": `performance.getEntriesByType("resource").map(e => e.name).filter(n => n !== location.origin + "/events")`,
		} {
			if found := evaluated[[]string](b, expression); len(found) > 0 {
				t.Errorf("%s: %q", what, found)
			}
		}
	})

	screenshot(t, b)

	// Nothing was wrong on the console, and what is wrong would be there: a script
	// that a name could bring along does not run.
	if said := b.errors(); len(said) > 0 {
		t.Errorf("the console shows %q", said)
	}
	evaluated[bool](b, `(() => { const s = document.createElement("script"); try { s.text = "window.evil = true" } catch {} document.body.append(s); const i = new Image(); i.src = "http://192.0.2.1/x"; return true })()`)
	b.until(func() bool { return len(b.errors()) > 0 }, func() string { return "the console does not tell of a script of another" })
	if evaluated[bool](b, `window.evil === true`) {
		t.Error("a script of another has run")
	}
	if said := strings.Join(b.errors(), "\n"); !strings.Contains(said, "Content Security Policy") {
		t.Errorf("the console shows %q", said)
	}

	// The end does not wait for the page, which says so and finds the next daemon.
	start := time.Now()
	daemon.signal(unix.SIGTERM)
	daemon.wait(0)
	t.Logf("the daemon ended after %s with a page open", time.Since(start))
	b.shows("#state", "The program does not answer")
	l.startDaemon(t, beats)
	b.shows("#state", "is up")
	b.shows("#log", "link up")

	t.Run("without a script", func(t *testing.T) {
		b.scripts(false)
		b.do(chromedp.Reload())
		b.scripts(true)
		if got := b.text("noscript"); !strings.Contains(got, "/status") {
			t.Errorf("shows %q", got)
		}
	})
}

// The relay's page is the same, and tells whose links there are.
func TestTheStatusPageOfARelay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	needTools(t, "chromium")
	p := l.startRelay(t, relayPort, settings{"heartbeat": strictBeats})
	p.expectLog(`"page":"` + relayPage + `"`)
	b := l.browse(t, relay)
	b.do(chromedp.Navigate(relayPage))
	b.shows("#state", "0 links, 0 sessions")
	s := l.ssh(t, l.through(t, settings{"heartbeat": "{interval: 0}"}), targetIP, "cat")
	s.send("before\n")
	s.expect("before")
	b.shows("#state", "1 link, 1 session")
	b.shows("#links", "SHA256:")
	b.shows("#sessions", targetIP+":22")
	b.shows("#summary", "beats answered")
	for _, want := range []string{"link up: 203.0.113.2:", ", key SHA256:", "to " + targetIP + ":22 opened"} {
		b.shows("#log", want)
	}
	s.stdin.Close()
	s.wait(0)
	b.shows("#state", "0 links, 0 sessions")
	for _, want := range []string{"to " + targetIP + ":22 ended", "link lost: "} {
		b.shows("#log", want)
	}
	if said := b.errors(); len(said) > 0 {
		t.Errorf("the console shows %q", said)
	}
}

// withoutMouse goes through the page by the tabulator key, and pauses it by Enter.
func withoutMouse(t *testing.T, b *browser) {
	t.Helper()
	b.do(chromedp.Reload())
	b.shows("#state", "is up")
	const focused = `(() => { const e = document.activeElement; return e.id || e.getAttribute("href") || e.tagName })()`
	want := evaluated[[]string](b, `[...document.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")].filter(e => e.checkVisibility()).map(e => e.id || e.getAttribute("href"))`)
	if len(want) < 9 {
		t.Errorf("there is only %q", want)
	}
	var got []string
	for range want {
		b.do(chromedp.KeyEvent("\t"))
		got = append(got, evaluated[string](b, focused))
		if seen := evaluated[string](b, `getComputedStyle(document.activeElement).outlineStyle`); seen == "none" {
			t.Errorf("%s shows no focus", got[len(got)-1])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the tabulator reaches %q, want %q", got, want)
	}
	evaluated[bool](b, `document.getElementById("pause").focus() || true`)
	b.do(chromedp.KeyEvent("\r"))
	b.shows("#state", "Paused")
	if evaluated[string](b, `document.getElementById("pause").getAttribute("aria-pressed")`) != "true" {
		t.Error("the button does not tell that it is pressed")
	}
	b.do(chromedp.KeyEvent(" "))
	b.shows("#state", "is up")
}

// screenshot takes one, and keeps it where it is wanted.
func screenshot(t *testing.T, b *browser) {
	t.Helper()
	b.scheme("light")
	b.do(chromedp.EmulateViewport(900, 1000))
	evaluated[bool](b, `document.activeElement.blur() || true`)
	if os.Getenv(screenshotEnv) != "" { // for a person: more beats
		idle(40 * time.Second)
	}
	image, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(image)); err != nil || len(image) > maxScreenshot {
		t.Errorf("a screenshot of %d bytes, %v", len(image), err)
	}
	file := os.Getenv(screenshotEnv)
	if file == "" {
		return
	}
	if err := os.WriteFile(file, image, 0o644); err != nil {
		t.Error(err)
	}
}

// paleText lists what is hard to read: text whose contrast with its ground is
// below 4.5:1 (WCAG 2.2, 1.4.3), and every text of the plot.
const paleText = `(() => {
	const rgb = (s) => s.match(/[\d.]+/g).map(Number);
	const luminance = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
	const pale = [];
	for (const e of document.querySelectorAll("body *")) {
		if (e.closest("noscript, style, script") || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
		const style = getComputedStyle(e);
		const [a, b] = [luminance(rgb(e instanceof SVGElement ? style.fill : style.color)), luminance(ground(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) pale.push(e.tagName + " " + e.textContent.slice(0, 30) + " " + ((a + 0.05) / (b + 0.05)).toFixed(2));
	}
	return pale;
})()`

// cutText lists elements whose text is wider than they are.
const cutText = `[...document.querySelectorAll("p, li, li span, td, tbody th, h1, h2, caption, figcaption")].filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map(e => e.tagName + " " + e.textContent.slice(0, 40))`
