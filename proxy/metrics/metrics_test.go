package metrics

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/relay"
)

var roles = []Role{RoleProxy, RoleRelay}

// scrape returns what Prometheus would read.
func scrape(t testing.TB, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// read returns our numbers by name and labels without role; of histograms only
// the count, by the number's name.
func read(t testing.TB, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sshka_") {
			continue
		}
		for _, v := range f.GetMetric() {
			key := f.GetName()
			for _, l := range v.GetLabel() {
				if l.GetName() != "role" {
					key += fmt.Sprintf("{%s=%s}", l.GetName(), l.GetValue())
				} else if l.GetValue() != string(m.role) {
					t.Errorf("%s has role %s", key, l.GetValue())
				}
			}
			switch {
			case v.GetCounter() != nil:
				all[key] = v.GetCounter().GetValue()
			case v.GetGauge() != nil:
				all[key] = v.GetGauge().GetValue()
			default:
				all[key] = float64(v.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

// row is a number as docs/metrics.md describes it.
type row struct{ kind, role, labels, unit, help string }

func page(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]row{}
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| `sshka_") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			t.Fatalf("%d cells in %q", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if _, double := rows[name]; double {
			t.Errorf("%s stands on the page twice", name)
		}
		rows[name] = row{cells[1], cells[2], cells[3], cells[4], cells[5]}
	}
	return rows
}

// TestThePageIsTheRegistry: what is exported is on the page, word for word, and
// nothing else is.
func TestThePageIsTheRegistry(t *testing.T) {
	onPage := page(t)
	exported := map[string]row{}
	for _, role := range roles {
		families, err := New(Config{Role: role, Version: "1.2.3"}).registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			name := f.GetName()
			if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
				continue
			}
			r := row{kind: strings.ToLower(f.GetType().String()), role: string(role), help: f.GetHelp()}
			var labels []string
			values := map[string]bool{}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "role" {
						continue
					}
					if !slices.Contains(labels, l.GetName()) {
						labels = append(labels, l.GetName())
					}
					values[l.GetValue()] = true
				}
			}
			r.labels = describe(labels, slices.Collect(maps.Keys(values)), onPage[name].labels)
			switch {
			case strings.HasSuffix(name, "_seconds"):
				r.unit = "seconds"
			case strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_bytes"):
				r.unit = "bytes"
			default:
				r.unit = onPage[name].unit // a count of something
			}
			if before, ok := exported[name]; ok {
				if before.role = r.role; before != r {
					t.Errorf("%s differs between the roles:\n%+v\n%+v", name, before, r)
				}
				r.role = "both"
			}
			exported[name] = r
		}
	}
	for name, r := range exported {
		if r != onPage[name] {
			t.Errorf("%s\nexported %+v\non page  %+v", name, r, onPage[name])
		}
	}
	for name := range onPage {
		if _, ok := exported[name]; !ok {
			t.Errorf("%s is on the page and not exported", name)
		}
	}
	if len(exported) != len(numbers) || len(numbers) < 18 {
		t.Errorf("%d numbers are exported, %d in the table", len(exported), len(numbers))
	}
}

// describe writes labels as the page does, in the page's order of values.
func describe(labels, values []string, onPage string) string {
	slices.SortFunc(labels, func(a, b string) int { return strings.Index(onPage, a) - strings.Index(onPage, b) })
	text := ""
	if len(labels) > 0 {
		text = "`" + strings.Join(labels, "` `") + "`"
	}
	if slices.Contains(labels, "version") {
		return text // values that nobody can list
	}
	slices.SortFunc(values, func(a, b string) int { return strings.Index(onPage, "`"+a+"`") - strings.Index(onPage, "`"+b+"`") })
	if len(values) > 0 {
		text += ": `" + strings.Join(values, "` `") + "`"
	}
	return text
}

// TestQueriesOnThePageNameNumbers: a renamed number must not leave a query behind.
func TestQueriesOnThePageNameNumbers(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := page(t)
	found := 0
	for _, name := range regexp.MustCompile(`sshka_\w+`).FindAllString(string(text), -1) {
		found++
		if _, ok := rows[strings.TrimSuffix(name, "_bucket")]; !ok {
			t.Errorf("the page speaks of %s, which does not exist", name)
		}
	}
	if found < len(rows)+8 {
		t.Errorf("only %d names found", found)
	}
}

// TestEveryValueIsThereFromTheStart, at zero.
func TestEveryValueIsThereFromTheStart(t *testing.T) {
	for _, role := range roles {
		m := New(Config{Role: role, Version: "1.2.3", Heartbeat: heartbeat.Policy{Interval: 7 * time.Second}})
		got := read(t, m)
		for _, n := range numbers {
			switch {
			case n.role != "" && n.role != role, n == buildInfo, n == heartbeatInterval:
				continue
			case n.label == "":
				n = &number{name: n.name, values: []string{""}}
			}
			for _, v := range n.values {
				key := n.name
				if v != "" {
					key += fmt.Sprintf("{%s=%s}", n.label, v)
				}
				if value, ok := got[key]; !ok || value != 0 {
					t.Errorf("%s: %s: %v, %v", role, key, value, ok)
				}
				delete(got, key)
			}
		}
		want := map[string]float64{
			"sshka_heartbeat_interval_seconds":                                     7,
			"sshka_build_info{goversion=" + runtime.Version() + "}{version=1.2.3}": 1,
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: left over %v", role, got)
		}
	}
}

func TestTheIntervalIsTheOneInForce(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want float64
	}{
		{Config{Role: RoleProxy}, heartbeat.DefaultInterval.Seconds()},
		{Config{Role: RoleRelay}, relay.RelayPolicy.Interval.Seconds()},
		{Config{Role: RoleRelay, Heartbeat: heartbeat.Policy{Interval: 250 * time.Millisecond}}, 0.25},
		{Config{Role: RoleProxy, Heartbeat: heartbeat.Policy{Interval: heartbeat.Off}}, 0},
	} {
		if got := read(t, New(c.cfg))["sshka_heartbeat_interval_seconds"]; got != c.want {
			t.Errorf("%+v: %v, want %v", c.cfg, got, c.want)
		}
	}
}

// TestARoundTripHasItsBucket: the buckets tell half a millisecond from ten
// seconds.
func TestARoundTripHasItsBucket(t *testing.T) {
	m := New(Config{Role: RoleProxy})
	trace := m.Proxy(nil)
	trace.Link.BeatAnswered(400 * time.Microsecond)
	trace.Link.BeatAnswered(30 * time.Millisecond)
	trace.Link.BeatAnswered(9 * time.Second)
	text := scrape(t, m)
	for _, want := range []string{
		`sshka_heartbeat_rtt_seconds_bucket{role="proxy",le="0.0005"} 1`,
		`sshka_heartbeat_rtt_seconds_bucket{role="proxy",le="0.025"} 1`,
		`sshka_heartbeat_rtt_seconds_bucket{role="proxy",le="0.05"} 2`,
		`sshka_heartbeat_rtt_seconds_bucket{role="proxy",le="5"} 2`,
		`sshka_heartbeat_rtt_seconds_bucket{role="proxy",le="10"} 3`,
		`sshka_heartbeat_rtt_seconds_sum{role="proxy"} 9.0304`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

func TestTheRelayIsAskedForItsMemory(t *testing.T) {
	m := New(Config{Role: RoleRelay})
	used := int64(1 << 20)
	m.Memory(func() (int64, int64) { used++; return used, 1 << 30 })
	for range 2 { // at every scrape, twice
		before := used
		got := read(t, m)
		if now := got["sshka_session_memory_bytes"]; now <= float64(before) || now > float64(used) || got["sshka_session_memory_limit_bytes"] != 1<<30 {
			t.Errorf("%v of %v", now, got["sshka_session_memory_limit_bytes"])
		}
	}
}

func TestTwoInOneProcessDoNotMix(t *testing.T) {
	proxy, embedded := New(Config{Role: RoleProxy}), New(Config{Role: RoleRelay})
	embedded.Relay(nil).Link.BeatSent(1)
	if read(t, proxy)["sshka_heartbeats_sent_total"] != 0 || read(t, embedded)["sshka_heartbeats_sent_total"] != 1 {
		t.Error("a beat of one is in the other's numbers")
	}
}

// TestPromtoolLikesIt: names, units and help texts as Prometheus wants them, by the
// linter that promtool check metrics runs.
func TestPromtoolLikesIt(t *testing.T) {
	for _, role := range roles {
		text := scrape(t, New(Config{Role: role, Version: "1.2.3"}))
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Errorf("%s: %v", role, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", role, p.Metric, p.Text)
		}
	}
}

// TestEventsAllocateNothing: a relay of ten thousand links counts all the time.
func TestEventsAllocateNothing(t *testing.T) {
	trace := New(Config{Role: RoleRelay}).Relay(&relay.Trace{})
	proxy := New(Config{Role: RoleProxy}).Proxy(&client.Trace{})
	up := conn("bbr")
	if n := testing.AllocsPerRun(100, func() {
		trace.Link.BeatSent(1)
		trace.Link.BeatMissed(1)
		trace.Link.BeatAnswered(time.Millisecond)
		trace.LinkUp(up)
		trace.LinkDown(nil, nil)
		proxy.Link.SlowDown(time.Second)
		proxy.Dialled(time.Second, nil)
		trace.Opened(nil)
		trace.LimitHit(relay.LimitHandshakes)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
