package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

const kubernetesDir = "../deploy/kubernetes"

// object is any object of Kubernetes, as far as all of them are alike.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Spec any               `yaml:"spec"`
	Data map[string]string `yaml:"data"`
}

// The parts of the objects that are used here. A key that they do not name is a
// mistake, or wants a line here.
type (
	named struct {
		Name string `yaml:"name"`
	}
	labels struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	port struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
		Port          any    `yaml:"port"`
		TargetPort    string `yaml:"targetPort"`
		Protocol      string `yaml:"protocol"`
	}
	probe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	mount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
	container struct {
		Name           string   `yaml:"name"`
		Image          string   `yaml:"image"`
		Args           []string `yaml:"args"`
		Ports          []port   `yaml:"ports"`
		ReadinessProbe probe    `yaml:"readinessProbe"`
		LivenessProbe  probe    `yaml:"livenessProbe"`
		Lifecycle      struct {
			PreStop struct {
				Exec struct {
					Command []string `yaml:"command"`
				} `yaml:"exec"`
			} `yaml:"preStop"`
		} `yaml:"lifecycle"`
		Resources struct {
			Requests map[string]string `yaml:"requests"`
			Limits   map[string]string `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
			RunAsUser                int   `yaml:"runAsUser"`
			RunAsGroup               int   `yaml:"runAsGroup"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
				Add  []string `yaml:"add"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []mount `yaml:"volumeMounts"`
	}
	volume struct {
		Name      string `yaml:"name"`
		Projected struct {
			DefaultMode int `yaml:"defaultMode"`
			Sources     []struct {
				ConfigMap named `yaml:"configMap"`
				Secret    named `yaml:"secret"`
			} `yaml:"sources"`
		} `yaml:"projected"`
		EmptyDir struct {
			Medium    string `yaml:"medium"`
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
	}
	statefulSet struct {
		Replicas       int    `yaml:"replicas"`
		ServiceName    string `yaml:"serviceName"`
		UpdateStrategy struct {
			Type string `yaml:"type"`
		} `yaml:"updateStrategy"`
		Selector labels `yaml:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec struct {
				AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
				EnableServiceLinks            *bool `yaml:"enableServiceLinks"`
				TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
				SecurityContext               struct {
					FSGroup        int `yaml:"fsGroup"`
					SeccompProfile struct {
						Type string `yaml:"type"`
					} `yaml:"seccompProfile"`
				} `yaml:"securityContext"`
				Containers []container `yaml:"containers"`
				Volumes    []volume    `yaml:"volumes"`
			} `yaml:"spec"`
		} `yaml:"template"`
	}
	service struct {
		Type                  string            `yaml:"type"`
		ClusterIP             string            `yaml:"clusterIP"`
		ExternalTrafficPolicy string            `yaml:"externalTrafficPolicy"`
		Selector              map[string]string `yaml:"selector"`
		Ports                 []port            `yaml:"ports"`
	}
	networkPolicy struct {
		PodSelector labels   `yaml:"podSelector"`
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []struct {
			From []struct {
				NamespaceSelector labels `yaml:"namespaceSelector"`
			} `yaml:"from"`
			Ports []port `yaml:"ports"`
		} `yaml:"ingress"`
		Egress []struct {
			Ports []port `yaml:"ports"`
		} `yaml:"egress"`
	}
)

// apiVersions are the objects that are used, and where the API has them.
var apiVersions = map[string]string{
	"ConfigMap": "v1", "Service": "v1", "StatefulSet": "apps/v1", "NetworkPolicy": "networking.k8s.io/v1",
}

// strictly reads a document in which nothing may stand that into does not name.
func strictly(t *testing.T, where string, text []byte, into any) {
	t.Helper()
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(into); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
}

// cluster is all that kustomization.yaml names.
type cluster struct {
	maps     map[string]map[string]string // ConfigMaps, by name
	set      statefulSet
	services map[string]service
	policy   networkPolicy
}

func readCluster(t *testing.T) *cluster {
	t.Helper()
	var k struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Resources  []string `yaml:"resources"`
		Images     []struct {
			Name    string `yaml:"name"`
			NewName string `yaml:"newName"`
			NewTag  string `yaml:"newTag"`
		} `yaml:"images"`
	}
	text, err := os.ReadFile(filepath.Join(kubernetesDir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	strictly(t, "kustomization.yaml", text, &k)
	c := &cluster{maps: map[string]map[string]string{}, services: map[string]service{}}
	for _, file := range k.Resources {
		text, err := os.ReadFile(filepath.Join(kubernetesDir, file))
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			c.add(t, file, doc)
		}
	}
	for _, con := range c.set.Template.Spec.Containers {
		if !slices.ContainsFunc(k.Images, func(i struct {
			Name    string `yaml:"name"`
			NewName string `yaml:"newName"`
			NewTag  string `yaml:"newTag"`
		},
		) bool {
			return i.Name == con.Image && i.NewName != "" && i.NewTag != ""
		}) {
			t.Errorf("kustomization.yaml says nothing of the image %s", con.Image)
		}
	}
	return c
}

func (c *cluster) add(t *testing.T, file, doc string) {
	t.Helper()
	var o object
	strictly(t, file, []byte(doc), &o)
	if v, known := apiVersions[o.Kind]; !known || v != o.APIVersion {
		t.Fatalf("%s: kind %q of %q, want one of %v", file, o.Kind, o.APIVersion, apiVersions)
	}
	spec, err := yaml.Marshal(o.Spec)
	if err != nil {
		t.Fatal(err)
	}
	switch o.Kind {
	case "ConfigMap":
		c.maps[o.Metadata.Name] = o.Data
	case "StatefulSet":
		strictly(t, file, spec, &c.set)
	case "Service":
		var s service
		strictly(t, file, spec, &s)
		c.services[o.Metadata.Name] = s
	case "NetworkPolicy":
		strictly(t, file, spec, &c.policy)
	}
}

// A typing error in a manifest is found here, not by the cluster of whoever tries it.
func TestTheManifestsBelongTogether(t *testing.T) {
	t.Parallel()
	c := readCluster(t)
	pod := c.set.Template.Spec
	relay, sshd := pod.Containers[0], pod.Containers[1]
	if relay.Name != "relay" || sshd.Name != "sshd" || c.set.Replicas != 1 || c.set.UpdateStrategy.Type != "OnDelete" {
		t.Errorf("containers %s and %s, %d replicas, updates %s", relay.Name, sshd.Name, c.set.Replicas, c.set.UpdateStrategy.Type)
	}
	f, err := config.Parse("relay.yaml", []byte(c.maps["jump-relay"]["relay.yaml"]), func(string) string { return "" })
	if err != nil {
		t.Fatalf("the ConfigMap's relay.yaml: %v", err)
	}
	if grace, drain := time.Duration(pod.TerminationGracePeriodSeconds)*time.Second, time.Duration(f.Relay.Drain); drain == 0 || grace < drain+10*time.Second {
		t.Errorf("the pod has %v to end and drains for %v", grace, drain)
	}
	ports := map[string]int{}
	for _, p := range relay.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if got, want := fmt.Sprintf(":%d 0.0.0.0:%d", ports["links"], ports["admin"]), f.Relay.Listen[0]+" "+f.Relay.Admin; got != want {
		t.Errorf("the container's ports are %s, the relay listens on %s", got, want)
	}
	if r, l := relay.ReadinessProbe.HTTPGet, relay.LivenessProbe.HTTPGet; r.Path != "/readyz" || l.Path != "/healthz" || r.Port != "admin" || l.Port != "admin" {
		t.Errorf("the probes ask %+v and %+v", r, l)
	}
	app := c.set.Template.Metadata.Labels["app.kubernetes.io/name"]
	if _, ok := c.services[c.set.ServiceName]; !ok || app == "" {
		t.Errorf("the StatefulSet's service is %q, its pod %q", c.set.ServiceName, app)
	}
	selectors := []map[string]string{c.set.Selector.MatchLabels, c.policy.PodSelector.MatchLabels}
	for name, s := range c.services {
		selectors = append(selectors, s.Selector)
		for _, p := range s.Ports {
			if ports[p.TargetPort] == 0 || fmt.Sprint(p.Port) != strconv.Itoa(ports[p.TargetPort]) {
				t.Errorf("service %s: port %+v, the container has %v", name, p, ports)
			}
		}
	}
	for _, s := range selectors {
		if len(s) != 1 || s["app.kubernetes.io/name"] != app {
			t.Errorf("a selector is %v, the pod %q", s, app)
		}
	}
	for _, in := range c.policy.Ingress {
		for _, p := range in.Ports {
			if name, ok := p.Port.(string); !ok || ports[name] == 0 {
				t.Errorf("the NetworkPolicy has port %v, the container %v", p.Port, ports)
			}
		}
	}
	c.checkFiles(t, f)
	c.checkHardened(t, relay)
}

// checkFiles holds that every file that the configuration names is mounted.
func (c *cluster) checkFiles(t *testing.T, f *config.File) {
	t.Helper()
	pod := c.set.Template.Spec
	files := []string{}
	for _, v := range pod.Volumes {
		for _, s := range v.Projected.Sources {
			switch {
			case s.Secret.Name != "":
				text, err := os.ReadFile(filepath.Join(kubernetesDir, "kustomization.yaml"))
				if err != nil || !strings.Contains(string(text), "create secret generic "+s.Secret.Name+" --from-file=relay_key\n") {
					t.Errorf("kustomization.yaml does not say how to make %s (%v)", s.Secret.Name, err)
				}
				files = append(files, "/etc/sshka/relay_key")
			case c.maps[s.ConfigMap.Name] == nil:
				t.Errorf("volume %s: there is no ConfigMap %s", v.Name, s.ConfigMap.Name)
			}
			for name := range c.maps[s.ConfigMap.Name] {
				files = append(files, "/etc/sshka/"+name)
			}
		}
		if v.Projected.Sources == nil && v.EmptyDir.Medium != "Memory" {
			t.Errorf("volume %s is not in memory: its directory could be written by everybody", v.Name)
		}
	}
	args := pod.Containers[0].Args
	for _, want := range []string{f.Relay.Key, f.Relay.AuthorizedKeys, args[len(args)-1]} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is not among the files of the volumes: %v", want, files)
		}
	}
	mounts := map[string]string{}
	for _, con := range pod.Containers {
		for _, m := range con.VolumeMounts {
			mounts[con.Name+" "+m.MountPath] = m.Name
			if !slices.ContainsFunc(pod.Volumes, func(v volume) bool { return v.Name == m.Name }) {
				t.Errorf("container %s mounts %s, which is no volume", con.Name, m.Name)
			}
		}
	}
	if mounts["relay /etc/sshka"] != "sshka" || mounts["relay "+f.Relay.State] != "state" || mounts["sshd /run/sshka"] != "state" {
		t.Errorf("mounts are %v", mounts)
	}
}

func (c *cluster) checkHardened(t *testing.T, relay container) {
	t.Helper()
	s, pod := relay.SecurityContext, c.set.Template.Spec
	if !s.RunAsNonRoot || s.RunAsUser == 0 || !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("the relay may more than it needs: %+v", s)
	}
	if pod.SecurityContext.FSGroup != s.RunAsGroup || pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" ||
		pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("the pod is %+v", pod.SecurityContext)
	}
}

// kubelet lays out a projected volume as the kubelet does: a tmpfs's directory, a
// folder with the time in its name, and symbolic links. Everything belongs to root and
// to the pod's group.
func kubelet(t *testing.T, dir string, group int, mode os.FileMode, files map[string]string) {
	t.Helper()
	payload := filepath.Join(dir, "..2026_11_22_12_00_00.123456789")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o700))
	must(os.Mkdir(payload, 0o700))
	for name, text := range files {
		path := filepath.Join(payload, name)
		must(os.WriteFile(path, []byte(text), 0o600))
		must(os.Chown(path, 0, group))
		must(os.Chmod(path, mode))
		must(os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	must(os.Symlink(filepath.Base(payload), filepath.Join(dir, "..data")))
	must(os.Chown(payload, 0, group))
	must(os.Chmod(payload, 0o755|os.ModeSetgid))
	must(os.Chown(dir, 0, group))
	must(os.Chmod(dir, 0o777|os.ModeSticky|os.ModeSetgid))
}

// The relay believes what a pod gets: authorized_keys by symbolic links, and a key
// that its group may read.
func TestTheRelayTakesFilesAsKubernetesMountsThem(t *testing.T) {
	t.Parallel()
	needTools(t, "setpriv")
	c := readCluster(t)
	pod := c.set.Template.Spec
	user, group := pod.Containers[0].SecurityContext.RunAsUser, pod.SecurityContext.FSGroup
	mode := os.FileMode(pod.Volumes[0].Projected.DefaultMode)
	// Not below the test's own folder, which is closed to others.
	dir, err := os.MkdirTemp("/tmp", "sshka-pod-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "relay_key")
	made, _, err := transport.LoadOrMakeRelayKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	userKey := filepath.Join(t.TempDir(), "user")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", userKey).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	line, err := os.ReadFile(userKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	etc, state, relay := filepath.Join(dir, "etc"), filepath.Join(dir, "state"), filepath.Join(dir, "sshka-relay")
	text := strings.NewReplacer("/etc/sshka/", etc+"/", "/var/lib/sshka", state).Replace(c.maps["jump-relay"]["relay.yaml"])
	kubelet(t, etc, group, mode, map[string]string{"relay.yaml": text, "authorized_keys": string(line), "relay_key": string(pem)})
	// The pod's emptyDir in memory.
	kubelet(t, state, group, 0, nil)
	program, err := os.ReadFile(program(t, "sshka-relay"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(relay, program, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func() (string, error) {
		cmd := exec.Command("setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", group), "--clear-groups",
			relay, "check", "--config", filepath.Join(etc, "relay.yaml"))
		cmd.Env = []string{"STATE_DIRECTORY=" + state}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "(1 accepted)") || !strings.Contains(out, made.Fingerprint) {
		t.Errorf("check: %v\n%s", err, out)
	}
	// The same without the sticky bit, which a ConfigMap volume lacks.
	if err := unix.Chmod(etc, 0o2777); err != nil {
		t.Fatal(err)
	}
	if out, err := run(); err == nil || !strings.Contains(out, "its directory may be written by others") {
		t.Errorf("check of a directory that everybody may write to: %v\n%s", err, out)
	}
}
