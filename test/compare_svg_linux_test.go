package test

import (
	"fmt"
	"math"
	"strings"
)

// The picture of the films, in pixels. Two panels, one above the other.
const (
	pictureWidth = 760
	panelLeft    = 64
	panelWidth   = pictureWidth - panelLeft - 16
	panelHeight  = 170
	panelGap     = 48
	panelTop     = 56
)

// lineColours can be told apart by those who see red and green alike.
var lineColours = []string{"#555555", "#0072b2", "#d55e00", "#cc79a7"}

// panel is a drawing of something over time.
type panel struct {
	title string
	top   int
	value func(frame) float64
	high  float64   // the upper end
	low   float64   // the lower end, above 0 for a logarithmic scale
	marks []float64 // on the left
}

// drawFilms draws what peers did over time as SVG.
func drawFilms(films []shownFilm) string {
	var longest, fastest, slowest float64
	for _, f := range films {
		for _, one := range f.frames {
			longest, fastest, slowest = max(longest, one.seconds), max(fastest, one.mbit), max(slowest, one.echo)
		}
	}
	panels := []panel{
		{title: "bulk, Mbit/s", top: panelTop, value: func(f frame) float64 { return f.mbit }, high: math.Ceil(fastest/5) * 5, marks: steps(fastest)},
		{
			title: "slowest keystroke of each quarter second, ms", top: panelTop + panelHeight + panelGap, value: func(f frame) float64 { return f.echo },
			low: 10, high: max(1000, slowest), marks: []float64{10, 30, 100, 300, 1000},
		},
	}
	height := panels[1].top + panelHeight + 40
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", pictureWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", pictureWidth, height)
	for i, f := range films {
		x := panelLeft + i*150
		fmt.Fprintf(&b, `<line x1="%d" y1="18" x2="%d" y2="18" stroke="%s" stroke-width="2"/><text x="%d" y="22">%s</text>`+"\n",
			x, x+24, lineColours[i%len(lineColours)], x+30, f.Peer)
	}
	for _, p := range panels {
		p.draw(&b, films, longest)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">seconds</text>`+"\n</svg>\n", panelLeft+panelWidth/2, height-6)
	return b.String()
}

// steps are marks up to a value, five at most.
func steps(high float64) (all []float64) {
	step := max(math.Ceil(high/25)*5, 1)
	for x := 0.0; x <= high; x += step {
		all = append(all, x)
	}
	return all
}

// height returns where a value is drawn.
func (p *panel) height(value float64) float64 {
	share := value / p.high
	if p.low > 0 {
		share = math.Log(max(value, p.low)/p.low) / math.Log(p.high/p.low)
	}
	return float64(p.top) + panelHeight*(1-min(share, 1))
}

func (p *panel) draw(b *strings.Builder, films []shownFilm, longest float64) {
	across := func(seconds float64) float64 { return panelLeft + panelWidth*seconds/longest }
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", panelLeft, p.top-8, p.title)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999999"/>`+"\n", panelLeft, p.top, panelWidth, panelHeight)
	for _, m := range p.marks {
		y := p.height(m)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			panelLeft, y, panelLeft+panelWidth, y, panelLeft-6, y+4, m)
	}
	for s := 0.0; s <= longest; s += max(math.Round(longest/6), 1) {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", across(s), p.top+panelHeight+16, s)
	}
	for i, f := range films {
		var points []string
		for _, one := range f.frames {
			v := p.value(one)
			if v == 0 && p.low > 0 {
				continue // no echo was sent: the one before has not come back yet
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", across(one.seconds), p.height(v)))
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", lineColours[i%len(lineColours)], strings.Join(points, " "))
	}
}
