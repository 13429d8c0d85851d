package test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// The page's part that the comparison writes.
const (
	compareBegin = "<!-- compare:begin -->"
	compareEnd   = "<!-- compare:end -->"
)

// between replaces what stands between the marks.
func between(page, text string) (string, error) {
	before, rest, begun := strings.Cut(page, compareBegin)
	_, after, ended := strings.Cut(rest, compareEnd)
	if !begun || !ended || strings.Contains(after, compareBegin) {
		return "", errors.New("want " + compareBegin + " and " + compareEnd + " in it, once and in this order")
	}
	return before + compareBegin + "\n" + text + compareEnd + after, nil
}

// cell shows a value, and how it compares.
func (f *figure) cell() string {
	text := fmt.Sprintf("%.*f", f.digits, f.Median)
	if f.Ratio > 0 {
		text += fmt.Sprintf(" (%.2f×)", f.Ratio)
	}
	return text
}

// table returns a scenario's figures: a line for each measure, a column for each peer, and
// a line of names above.
func (r *report) table(scenario string) [][]string {
	var measures, peers []string
	units := make(map[string]string)
	for _, f := range r.Figures {
		if f.Scenario != scenario {
			continue
		}
		if !slices.Contains(measures, f.Measure) {
			measures = append(measures, f.Measure)
			units[f.Measure] = f.Unit
		}
		if !slices.Contains(peers, f.Peer) {
			peers = append(peers, f.Peer)
		}
	}
	if len(measures) == 0 {
		return nil
	}
	rows := [][]string{append([]string{""}, peers...)}
	for _, m := range measures {
		row := []string{m + ", " + units[m]}
		for _, p := range peers {
			text := "–"
			if f := r.find(scenario, m, p); f != nil {
				text = f.cell()
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

// title says what a table shows, and what the ratios in it are to.
func (r *report) title(s shownScenario) string {
	for _, f := range r.Figures {
		if f.Scenario == s.Name && f.Ratio > 0 {
			return fmt.Sprintf("%s (×: to %s)", s.Title, s.Base)
		}
	}
	return s.Title
}

// about says in lines what was measured and where.
func (r *report) about() []string {
	what := fmt.Sprintf("Measured %s: %s run, %d rounds", r.Made.Format("2006-01-02 15:04 MST"), r.Effort.Mode, r.Effort.Rounds)
	if r.Effort.Rounds == 1 {
		what = strings.TrimSuffix(what, "s")
	}
	if r.Only != "" {
		what += fmt.Sprintf(", only scenarios that match %q", r.Only)
	}
	if r.Effort.Mode == "short" {
		what += ": enough to see that it works, too little to go by"
	}
	programs := []string{r.Go}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		programs = append(programs, r.Versions[name])
	}
	lines := []string{
		what + ".",
		fmt.Sprintf("Linux %s, %d processors, congestion controls: %s. %s.", r.Kernel, r.CPUs, r.Controls, strings.Join(programs, ", ")),
	}
	for _, l := range r.Lines {
		text := fmt.Sprintf("%s: congestion control %s", l.Scenario, l.Control)
		if l.PingMs > 0 {
			text += fmt.Sprintf("; the line alone: ping %.1f ms", l.PingMs)
		}
		if l.Iperf3Mbit > 0 {
			text += fmt.Sprintf(", iperf3 %.1f Mbit/s", l.Iperf3Mbit)
		}
		lines = append(lines, text+".")
	}
	for _, text := range r.LeftOut {
		lines = append(lines, "Left out: "+text+".")
	}
	for _, text := range r.Remarks {
		lines = append(lines, strings.ToUpper(text[:1])+text[1:]+".")
	}
	return lines
}

// goalRows are the goals as a table.
func (r *report) goalRows() [][]string {
	rows := [][]string{{"goal", "wanted", "measured", ""}}
	for _, g := range r.Goals {
		measured, verdict := "–", "not measured"
		if g.Measured {
			measured, verdict = g.show(g.Got), "missed"
			if g.Met {
				verdict = "met"
			}
		}
		rows = append(rows, []string{g.What, g.want(), measured, verdict})
	}
	return rows
}

// text is the report for a terminal.
func (r *report) text() string {
	var b strings.Builder
	b.WriteString(strings.Join(r.about(), "\n") + "\n")
	section := func(title string, rows [][]string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		widths := make([]int, len(rows[0]))
		for _, row := range rows {
			for i, c := range row {
				widths[i] = max(widths[i], utf8.RuneCountInString(c))
			}
		}
		for _, row := range rows {
			var out strings.Builder
			for i, c := range row {
				out.WriteString("  " + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
			}
			b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
		}
	}
	for _, s := range r.Scenarios {
		if rows := r.table(s.Name); rows != nil {
			section(r.title(s), rows)
		}
	}
	section("Goals", r.goalRows())
	return b.String()
}

// markdown is the report for the page.
func (r *report) markdown() string {
	var b strings.Builder
	for _, line := range r.about() {
		b.WriteString("- " + line + "\n")
	}
	section := func(title string, rows [][]string) {
		fmt.Fprintf(&b, "\n### %s\n\n", title)
		for i, row := range rows {
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
			if i == 0 {
				b.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
			}
		}
	}
	for _, s := range r.Scenarios {
		if rows := r.table(s.Name); rows != nil {
			section(r.title(s), rows)
		}
	}
	section("Goals", r.goalRows())
	return b.String()
}
