package test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// What the comparison does with its figures needs neither root nor time.

func TestTheComparisonRewritesOnlyItsPart(t *testing.T) {
	const page = "above\n" + compareBegin + "\nold\n" + compareEnd + "\nbelow\n"
	got, err := between(page, "new\n")
	if want := "above\n" + compareBegin + "\nnew\n" + compareEnd + "\nbelow\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, page := range []string{"", compareBegin, compareEnd + compareBegin, page + page} {
		if got, err := between(page, "new"); err == nil {
			t.Errorf("%q became %q, want an error", page, got)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := &report{Scenarios: []shownScenario{{Name: "s", Title: "S"}}}
	m := measure{Name: "m", Unit: "MB/s"}
	// The machine gets slower all the time; the ratio is 0.5 in every round but one.
	for round, direct := range []float64{100, 50, 20, 10, 4} {
		r.add("s", peerDirect, m, round, direct)
		r.add("s", peerSOCKS, m, round, direct/2)
	}
	r.add("s", peerSOCKS, m, 4, 40)
	r.add("s", peerSSH, m, 7, 1) // alone in its round
	r.reckon()
	if f := r.find("s", "m", peerSOCKS); f.Ratio != 0.5 || f.Median != 25 {
		t.Errorf("ratio %v, median %v, want 0.5 and 25", f.Ratio, f.Median)
	}
	if f := r.find("s", "m", peerSSH); f.Ratio != 0 {
		t.Errorf("ratio %v of what was never measured together", f.Ratio)
	}
	text := r.text()
	if want := "25 (0.50×)"; !strings.Contains(text, want) || !strings.Contains(r.markdown(), want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}

func TestGoalsAreReckonedFromFigures(t *testing.T) {
	r := &report{}
	bulkUp := measure{Name: "bulk up, one session"}
	r.add("wan-a", peerDirect, bulkUp, 0, 100)
	r.add("wan-a", peerSOCKS, bulkUp, 0, 96)
	r.add("idle", peerSOCKS, idleMemory.of(4000), 0, 24.9)
	r.reckon()
	verdicts := make(map[string]reached)
	for _, g := range r.Goals {
		verdicts[g.What] = g
	}
	for what, want := range map[string]reached{
		"WAN A: bulk up, to direct TCP":   {Measured: true, Got: 0.96, Met: false},
		"WAN A: bulk down, to direct TCP": {Measured: false},
		"An idle session, both ends":      {Measured: true, Got: 24.9, Met: true},
	} {
		got, ok := verdicts[what]
		if !ok || got.Measured != want.Measured || math.Abs(got.Got-want.Got) > 1e-9 || got.Met != want.Met {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	for _, g := range goals() {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == g.scenario }) {
			t.Errorf("%s: no scenario %s", g.what, g.scenario)
		}
	}
}

func TestThePictureIsXML(t *testing.T) {
	var frames []frame
	for i := range 40 {
		frames = append(frames, frame{seconds: float64(i+1) / 4, mbit: float64(i % 20), echo: float64(i * 30)})
	}
	picture := drawFilms([]shownFilm{{Peer: peerDirect, frames: frames}, {Peer: peerSOCKS, frames: frames[:20]}})
	lines := 0
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 4 || strings.Contains(picture, "%!") {
		t.Errorf("%d lines, want 4 in\n%s", lines, picture)
	}
}

func TestAProcessTellsWhatItUses(t *testing.T) {
	s, err := readStat("/proc/self/stat")
	if err != nil || s.pid <= 0 || s.parent <= 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if bytes, err := resident([]int{s.pid}); err != nil || bytes < 1<<20 {
		t.Errorf("%v bytes are resident, %v", bytes, err)
	}
}
