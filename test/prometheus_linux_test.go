package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	prometheusPort = 9090
	deployDir      = "../deploy/prometheus"
)

// prometheus is a real one, beside the client.
type prometheus struct {
	l *lab
	t *testing.T
}

// startPrometheus runs it with the configuration of deploy/prometheus, in which each
// key of changes stands once and is replaced.
func (l *lab) startPrometheus(t *testing.T, changes map[string]string) prometheus {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployDir, "scrape.yaml"))
	l.check(err)
	config := string(text)
	for from, to := range changes {
		if strings.Count(config, from) != 1 {
			t.Fatalf("scrape.yaml names %q %d times", from, strings.Count(config, from))
		}
		config = strings.Replace(config, from, to, 1)
	}
	rules, err := os.ReadFile(filepath.Join(deployDir, "alerts.yaml"))
	l.check(err)
	l.write("alerts.yaml", string(rules)) // beside the configuration, as there
	p := l.start(t, client, "prometheus", "--config.file="+l.write("prometheus.yaml", config),
		"--storage.tsdb.path="+l.path("tsdb"), fmt.Sprintf("--web.listen-address=%s:%d", loopbackIP, prometheusPort))
	l.waitListening(p, client, prometheusPort)
	return prometheus{l, t}
}

// ask fills in what Prometheus' API answers, and nothing while it is not ready.
func (p prometheus) ask(path string, into any) {
	p.t.Helper()
	status, body := p.l.get(p.t, client, prometheusPort, path, "")
	if status == http.StatusServiceUnavailable {
		return
	}
	answer := struct {
		Status string
		Data   any
	}{Data: into}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("prometheus: %s: %d %s", path, status, body)
	}
}

// query returns the values of an expression now, by instance.
func (p prometheus) query(expr string) map[string]string {
	p.t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	p.ask("/api/v1/query?query="+url.QueryEscape(expr), &data)
	found := make(map[string]string)
	for _, r := range data.Result {
		found[r.Metric["instance"]] = fmt.Sprint(r.Value[1])
	}
	return found
}

// expect waits until an expression has a value for an instance.
func (p prometheus) expect(expr, instance, value string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got := p.query(expr)
		if got[instance] == value {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("prometheus: %s is %v, want %s for %s", expr, got, value, instance)
		}
	}
}

// expectAlerts waits until the alerts that are not inactive are those that are wanted: by
// name and instance, with their states.
func (p prometheus) expectAlerts(want map[string]string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
		p.ask("/api/v1/alerts", &data)
		got := make(map[string]string)
		for _, a := range data.Alerts {
			got[a.Labels["alertname"]+" "+a.Labels["instance"]] = a.State
		}
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("prometheus: the alerts are %v, want %v", got, want)
		}
	}
}

// What deploy/prometheus holds works as it stands, but for addresses and times: a real
// Prometheus reads both programs, the relay from another machine, and sees a link that
// is cut.
func TestPrometheusSeesALinkThatIsCut(t *testing.T) {
	t.Parallel()
	needTools(t, "prometheus")
	l := newLab(t)
	elsewhere := fmt.Sprintf("%s:%d", relayIP, relayAdmin)
	l.startRelay(t, relayPort, settings{"admin": `"` + elsewhere + `"`})
	l.startDaemon(t, settings{"heartbeat": "{interval: 200ms}"})
	p := l.startPrometheus(t, map[string]string{
		"127.0.0.1:9471":           elsewhere,
		"scrape_interval: 15s":     "scrape_interval: 250ms",
		"evaluation_interval: 15s": "evaluation_interval: 250ms",
	})
	const relayInstance, proxyInstance = "relay.example.com", "laptop.example.com"
	p.expect("up", relayInstance, "1")
	p.expect("up", proxyInstance, "1")
	p.expect("sshka_link_up", proxyInstance, "1")
	p.expect(`sshka_links{role="relay"}`, relayInstance, "1")
	if got := p.query(`sshka_session_memory_limit_bytes{role="relay"} > 0`); len(got) != 1 {
		t.Errorf("the relay's memory has the limits %v", got)
	}
	if got := p.query(`count by (instance) (sshka_limits_hit_total == 0)`); len(got) != 1 || got[relayInstance] == "" {
		t.Errorf("limits, none of which was hit: %v", got)
	}
	p.expectAlerts(nil)

	l.obstruct(upwards + fmt.Sprintf(" tcp dport %d reject with tcp reset", relayPort))
	p.expect("sshka_link_up", proxyInstance, "0")
	p.expectAlerts(map[string]string{"SshkaLinkDown " + proxyInstance: "pending"}) // the relay is not to blame
}
