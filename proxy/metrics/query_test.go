package metrics

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var (
	selector = regexp.MustCompile(`\b([a-z_][a-z0-9_]*)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`^(\w+)(=~|!~|!=|=)"([^"]*)"$`)
	named    = regexp.MustCompile(`\b(?:sshka|process|go)_\w+`)
	grouping = regexp.MustCompile(`\b(?:by|without|on)\s*\(([^)]*)\)`)
	shown    = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// find returns the number behind a series' name.
func find(name string) *number {
	for _, n := range numbers {
		if n.name == name {
			return n
		}
		if base := strings.TrimPrefix(name, n.name); n.kind == histogram && (base == "_bucket" || base == "_sum" || base == "_count") && name != base {
			return n
		}
	}
	return nil
}

// standard reports whether a number is one of the process's or of Go's.
func standard(name string) bool {
	families, err := New(Config{Role: RoleRelay}).registry.Gather()
	if err != nil {
		return false
	}
	for _, f := range families {
		if f.GetName() == name {
			return true
		}
	}
	return runtime.GOOS != "linux" && strings.HasPrefix(name, "process_") // not all systems tell
}

// unknown says what an expression asks for that is not exported: a number, a label, a
// value. It is no parser, promtool is; it knows what promtool does not.
func unknown(expr string) string {
	outside := selector.ReplaceAllString(expr, "")
	for _, name := range named.FindAllString(outside, -1) {
		if find(name) != nil {
			return name + " is not asked of one role"
		}
		if !standard(name) {
			return "there is no " + name
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		if why := unknownIn(m[1], m[2]); why != "" {
			return why
		}
	}
	have := labelsOf(expr)
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, label := range strings.Split(m[1], ",") {
			if label = strings.TrimSpace(label); !slices.Contains(have, label) {
				return fmt.Sprintf("nothing in %s has a label %q", expr, label)
			}
		}
	}
	return ""
}

// unknownIn is unknown for one selector.
func unknownIn(name, matchers string) string {
	n := find(name)
	role := false
	for _, part := range strings.Split(matchers, ",") {
		m := matcher.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return fmt.Sprintf("%s: %q is not read here", name, part)
		}
		label, value := m[1], m[3]
		switch {
		case label == "job", label == "instance":
		case n == nil:
			return fmt.Sprintf("%s has no label %s", name, label)
		case label == "role":
			role = true
			if m[2] != "=" || value != string(RoleProxy) && value != string(RoleRelay) || n.role != "" && value != string(n.role) {
				return fmt.Sprintf("%s is not exported as role%s%q", name, m[2], value)
			}
		case label != n.label:
			return fmt.Sprintf("%s has no label %s", name, label)
		default:
			for _, v := range strings.Split(value, "|") {
				if !slices.Contains(n.values, v) {
					return fmt.Sprintf("%s: %s is never %q", name, label, v)
				}
			}
		}
	}
	switch {
	case n != nil && !role:
		return name + " is not asked of one role"
	case n == nil && name != "up" && !standard(name):
		return "there is no " + name
	}
	return ""
}

// labelsOf returns the labels that the series of an expression have.
func labelsOf(expr string) []string {
	all := []string{"job", "instance", "role"}
	for _, name := range named.FindAllString(expr, -1) {
		n := find(name)
		switch {
		case n == nil:
			continue
		case n == buildInfo:
			all = append(all, "version", "goversion")
		case n.label != "":
			all = append(all, n.label)
		}
		if strings.HasSuffix(name, "_bucket") {
			all = append(all, "le")
		}
	}
	return all
}

// unknownLegend says which label a panel shows that its series do not have.
func unknownLegend(expr, legend string) string {
	have := labelsOf(expr)
	if m := regexp.MustCompile(`^sum by \(([^)]*)\)`).FindStringSubmatch(expr); m != nil { // the others are gone
		have = strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")
	}
	for _, m := range shown.FindAllStringSubmatch(legend, -1) {
		if !slices.Contains(have, m[1]) {
			return fmt.Sprintf("%s has no %s to show", expr, m[1])
		}
	}
	return ""
}

// TestAWrongQuestionIsFound: each of these is a mistake, but the first ones.
func TestAWrongQuestionIsFound(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{`sshka_link_up{role="proxy"} == 0`, ""},
		{`up{job="sshka-relay"} == 0`, ""},
		{`sum by (le, instance) (rate(sshka_heartbeat_rtt_seconds_bucket{role="relay",instance=~"$relay"}[5m]))`, ""},
		{`sum without (reason) (sshka_links_lost_total{role="relay",reason!~"shutdown|max_age"})`, ""},
		{`changes(process_start_time_seconds[15m]) > 0 and on (job, instance) sshka_build_info{role="relay"}`, ""},
		{`label_values(sshka_build_info{role="proxy"}, instance)`, ""},
		{`sshka_link_up == 0`, "one role"},
		{`sshka_link_up{instance="x"}`, "one role"},
		{`sshka_link_up{role="relay"}`, "not exported as"},
		{`sshka_links{role=~"relay"}`, "not exported as"},
		{`sshka_links{role="server"}`, "not exported as"},
		{`sshka_linkups{role="proxy"}`, "no label role"},
		{`sshka_linkups`, "there is no"},
		{`process_start{job="x"}`, "there is no"},
		{`sshka_links_bucket{role="proxy"}`, "no label role"},
		{`sshka_links_lost_total{role="relay",result="ok"}`, "no label result"},
		{`sshka_links_lost_total{role="relay",reason="bored"}`, "never"},
		{`sshka_links_lost_total{role="relay",reason=~"reset|bored"}`, "never"},
		{`sum by (result) (sshka_links_lost_total{role="relay"})`, `label "result"`},
		{`sum by (le) (sshka_links{role="relay"})`, `label "le"`},
	} {
		if got := unknown(c.expr); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.expr, got, c.want)
		}
	}
	for _, c := range []struct {
		expr, legend string
		ok           bool
	}{
		{`sum by (reason) (sshka_links_lost_total{role="relay"})`, "{{reason}}", true},
		{`sum by (reason) (sshka_links_lost_total{role="relay"})`, "{{instance}}", false},
		{`sshka_build_info{role="relay"}`, "{{instance}} {{version}}", true},
		{`sshka_links{role="relay"}`, "{{version}}", false},
	} {
		if got := unknownLegend(c.expr, c.legend); (got == "") != c.ok {
			t.Errorf("%s, %s: %q", c.expr, c.legend, got)
		}
	}
}
