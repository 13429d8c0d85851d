package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	prometheusDir = "../../deploy/prometheus"
	dashboardFile = "../../deploy/grafana/sshka.json"
)

// promtool runs Prometheus' own tool, where it is installed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (Debian: prometheus), so nobody else reads these files")
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolAcceptsTheAlerts(t *testing.T) {
	promtool(t, "check", "rules", prometheusDir+"/alerts.yaml")
}

func TestAlertsFireAsTheirTestsSay(t *testing.T) {
	promtool(t, "test", "rules", prometheusDir+"/alerts_test.yaml")
}

func TestPromtoolAcceptsTheScrapeConfiguration(t *testing.T) {
	promtool(t, "check", "config", prometheusDir+"/scrape.yaml")
}

// alert is one rule of alerts.yaml.
type alert struct {
	Name        string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(prometheusDir, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, "alerts.yaml", &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 9 {
		t.Fatalf("only %d alerts are read", len(all))
	}
	return all
}

// anchors are those of a page's headings, as a forge makes them.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		heading := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(heading, " ", "-")] = true
	}
	return found
}

// TestWhoeverGetsAnAlertKnowsWhatToDo: every alert says so, and its page exists.
func TestWhoeverGetsAnAlertKnowsWhatToDo(t *testing.T) {
	headings := anchors(t, "../../docs/operations.md")
	for _, a := range alerts(t) {
		for _, name := range []string{"summary", "description", "action", "runbook"} {
			if a.Annotations[name] == "" {
				t.Errorf("%s has no %s", a.Name, name)
			}
		}
		anchor, ok := strings.CutPrefix(a.Annotations["runbook"], "docs/operations.md#")
		if !ok || anchor != strings.ToLower(a.Name) || !headings[anchor] {
			t.Errorf("%s: runbook %q is no heading of docs/operations.md", a.Name, a.Annotations["runbook"])
		}
		if s := a.Labels["severity"]; s != "info" && s != "warning" && s != "critical" {
			t.Errorf("%s has severity %q", a.Name, s)
		}
	}
}

// TestEveryAlertIsSeenToFireAndNotTo in alerts_test.yaml.
func TestEveryAlertIsSeenToFireAndNotTo(t *testing.T) {
	var file struct {
		Tests []struct {
			Checks []struct {
				Alert string `yaml:"alertname"`
				Fires []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, "alerts_test.yaml", &file)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Checks {
			if len(c.Fires) > 0 {
				fires[c.Alert] = true
			} else {
				quiet[c.Alert] = true
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Name] || !quiet[a.Name] {
			t.Errorf("%s: seen to fire %v, seen not to fire %v", a.Name, fires[a.Name], quiet[a.Name])
		}
	}
}

func TestAlertsAskForNumbersThatExist(t *testing.T) {
	for _, a := range alerts(t) {
		if why := unknown(a.Expr); why != "" {
			t.Errorf("%s: %s", a.Name, why)
		}
	}
}

// TestARelayIsNotBlamedForItsProxies: a missed beat or a lost link is nothing to
// a relay.
func TestARelayIsNotBlamedForItsProxies(t *testing.T) {
	for _, a := range alerts(t) {
		if strings.Contains(a.Expr, "sshka_heartbeats_missed") && strings.Contains(a.Expr, `"relay"`) {
			t.Errorf("%s watches beats that a relay missed", a.Name)
		}
	}
}

// panel is one of the dashboard's.
type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct {
		RefID        string
		Expr         string
		LegendFormat string
		Datasource   struct{ Type, UID string }
	}
}

type dashboard struct {
	SchemaVersion int
	UID           string
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 40 || d.UID == "" || len(d.Panels) < 20 {
		t.Fatalf("schema %d, uid %q, %d panels", d.SchemaVersion, d.UID, len(d.Panels))
	}
	return d
}

// TestEveryPanelTellsWhatItShows: title, unit, description, the role of its row, and
// whoever imports it chooses where the numbers come from.
func TestEveryPanelTellsWhatItShows(t *testing.T) {
	const source = "${datasource}"
	role := Role("")
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d, %q: there is another of the kind", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := fmt.Sprint(p.GridPos.X+x, " ", p.GridPos.Y+y)
				if taken[at] || p.GridPos.X+x >= 24 {
					t.Errorf("%s: something is at %s already", p.Title, at)
				}
				taken[at] = true
			}
		}
		if p.Type == "row" {
			role = map[string]Role{"Proxies": RoleProxy, "Relays": RoleRelay}[p.Title]
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != source || len(p.Targets) == 0 {
			t.Errorf("%s: description %q, unit %q, source %q, %d queries", p.Title, p.Description, p.FieldConfig.Defaults.Unit, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			if why := unknown(q.Expr); why != "" {
				t.Errorf("%s: %s", p.Title, why)
			}
			if why := unknownLegend(q.Expr, q.LegendFormat); why != "" {
				t.Errorf("%s: %s", p.Title, why)
			}
			if !strings.Contains(q.Expr, fmt.Sprintf("role=%q", role)) || !strings.Contains(q.Expr, fmt.Sprintf(`instance=~"$%s"`, role)) {
				t.Errorf("%s: %s is not for the row's %s", p.Title, q.Expr, role)
			}
			if q.Datasource.UID != source || q.LegendFormat == "" {
				t.Errorf("%s: source %q, legend %q", p.Title, q.Datasource.UID, q.LegendFormat)
			}
		}
	}
}

// TestTheDashboardsVariablesAreThere: those that its queries use, and no other.
func TestTheDashboardsVariablesAreThere(t *testing.T) {
	d := readDashboard(t)
	used := map[string]bool{"datasource": true}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !strings.HasPrefix(m[1], "__") { // Grafana's own
					used[m[1]] = true
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		if !used[v.Name] {
			t.Errorf("nobody asks for $%s", v.Name)
		}
		delete(used, v.Name)
		if v.Type == "query" {
			if why := unknown(v.Definition); why != "" {
				t.Errorf("$%s: %s", v.Name, why)
			}
		}
	}
	for name := range used {
		t.Errorf("$%s is not defined", name)
	}
}

// TestPromtoolReadsTheDashboardsQueries as the rules of a file, which is how it checks
// an expression.
func TestPromtoolReadsTheDashboardsQueries(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			expr := strings.ReplaceAll(q.Expr, "$__rate_interval", "5m") // others stand in strings
			rules = append(rules, rule{fmt.Sprintf("panel:%d:%s", p.ID, q.RefID), expr})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
