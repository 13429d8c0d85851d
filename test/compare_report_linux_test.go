package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reportSchema counts the changes of compare.json that a reader has to know of.
const reportSchema = 1

// measure is something measured.
type measure struct {
	Name   string
	Unit   string
	digits int
}

// of returns m for so many.
func (m measure) of(count int) measure {
	m.Name = fmt.Sprintf("%s, of %d", m.Name, count)
	return m
}

// figure is what was measured of one peer.
type figure struct {
	Scenario string          `json:"scenario"`
	Measure  string          `json:"measure"`
	Unit     string          `json:"unit"`
	Peer     string          `json:"peer"`
	Rounds   map[int]float64 `json:"rounds"`
	Median   float64         `json:"median"`
	// Ratio is the median of the ratios to the scenario's base in the same round; 0: there is none.
	Ratio float64 `json:"ratio_to_base,omitempty"`

	digits int
}

// shownScenario is a scenario that ran.
type shownScenario struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Base  string `json:"base"`
}

// shownLine is what the line itself did, before anything ran over it.
type shownLine struct {
	Scenario   string  `json:"scenario"`
	Control    string  `json:"congestion_control"`
	PingMs     float64 `json:"ping_ms,omitempty"`
	Iperf3Mbit float64 `json:"iperf3_mbit_per_second,omitempty"`
}

// report is all that a run found. compare.json is its JSON.
type report struct {
	Schema    int               `json:"schema"`
	Made      time.Time         `json:"made"`
	Effort    effort            `json:"effort"`
	Only      string            `json:"only,omitempty"`
	Kernel    string            `json:"kernel"`
	CPUs      int               `json:"cpus"`
	Go        string            `json:"go"`
	Controls  string            `json:"congestion_controls"`
	Versions  map[string]string `json:"versions"`
	LeftOut   []string          `json:"left_out,omitempty"`
	Remarks   []string          `json:"remarks,omitempty"`
	Scenarios []shownScenario   `json:"scenarios"`
	Lines     []shownLine       `json:"lines"`
	Figures   []*figure         `json:"figures"`
	Goals     []reached         `json:"goals"`
	Films     []shownFilm       `json:"films,omitempty"`
}

func newReport(how effort, only string) *report {
	var name unix.Utsname
	_ = unix.Uname(&name)
	return &report{
		Schema: reportSchema, Made: time.Now().UTC().Truncate(time.Second), Effort: how, Only: only,
		Kernel: unix.ByteSliceToString(name.Release[:]), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Controls: controls(), Versions: versions(),
	}
}

// versions asks the programs that are there.
func versions() map[string]string {
	found := make(map[string]string)
	for name, ask := range map[string]struct {
		flag, begins string
		words        int
	}{
		"ssh": {"-V", "OpenSSH", 2}, "stunnel": {"-version", "stunnel ", 2}, "socat": {"-V", "socat version", 3},
		"haproxy": {"-v", "HAProxy", 3}, "iperf3": {"--version", "iperf", 2}, "chisel": {"--version", "", 1}, "frps": {"--version", "", 1},
	} {
		out, _ := exec.Command(name, ask.flag).CombinedOutput() // stunnel fails after it
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, ask.begins) {
				words := strings.Fields(line)
				found[name] = strings.TrimSuffix(strings.Join(words[:min(ask.words, len(words))], " "), ",")
				if ask.begins == "" { // a number alone
					found[name] = name + " " + found[name]
				}
				break
			}
		}
	}
	return found
}

// leaveOut says what was not measured, and why.
func (r *report) leaveOut(what, why string) {
	if text := what + ": " + why; !slices.Contains(r.LeftOut, text) {
		r.LeftOut = append(r.LeftOut, text)
	}
}

func (r *report) remark(format string, args ...any) {
	r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
}

// setBase names the peer that others are compared with in a scenario; direct TCP unless set.
func (r *report) setBase(scenario, peer string) {
	for i := range r.Scenarios {
		if r.Scenarios[i].Name == scenario {
			r.Scenarios[i].Base = peer
		}
	}
}

func (r *report) base(scenario string) string {
	for _, s := range r.Scenarios {
		if s.Name == scenario && s.Base != "" {
			return s.Base
		}
	}
	return peerDirect
}

// add keeps one value.
func (r *report) add(scenario, peer string, m measure, round int, value float64) {
	f := r.find(scenario, m.Name, peer)
	if f == nil {
		f = &figure{Scenario: scenario, Measure: m.Name, Unit: m.Unit, Peer: peer, Rounds: make(map[int]float64), digits: m.digits}
		r.Figures = append(r.Figures, f)
	}
	f.Rounds[round] = value
}

func (r *report) find(scenario, measure, peer string) *figure {
	for _, f := range r.Figures {
		if f.Scenario == scenario && f.Measure == measure && f.Peer == peer {
			return f
		}
	}
	return nil
}

// median returns the middle of values, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio returns the median of f's ratios to another figure in the same round.
func (f *figure) ratio(to *figure) (float64, bool) {
	var all []float64
	for round, value := range f.Rounds {
		if other, ok := to.Rounds[round]; ok && other > 0 {
			all = append(all, value/other)
		}
	}
	return median(all), len(all) > 0
}

// reckon fills in all that follows from the rounds.
func (r *report) reckon() {
	for i := range r.Scenarios {
		r.Scenarios[i].Base = r.base(r.Scenarios[i].Name)
	}
	for _, f := range r.Figures {
		f.Median = median(slices.Collect(maps.Values(f.Rounds)))
		if base := r.find(f.Scenario, f.Measure, r.base(f.Scenario)); base != nil && base != f {
			f.Ratio, _ = f.ratio(base)
		}
	}
	r.Goals = r.reach()
}

// save writes the tables into a folder.
func (r *report) save(dir string) error {
	r.reckon()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of the tables: %w", err)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write compare.json: %w", err)
	}
	files := map[string][]byte{
		"compare.json": append(data, '\n'),
		"compare.txt":  []byte(r.text()),
	}
	if len(r.Films) > 0 {
		files["performance-wan.svg"] = []byte(drawFilms(r.Films))
	}
	page := filepath.Join(dir, "performance.md")
	switch text, err := os.ReadFile(page); {
	case err == nil:
		replaced, err := between(string(text), r.markdown())
		if err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
		files["performance.md"] = []byte(replaced)
	case !os.IsNotExist(err):
		return fmt.Errorf("read the page: %w", err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
