package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const example = "../../config.example.yaml"

func home(name string) string {
	return map[string]string{"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/me"}[name]
}

// TestExampleShowsTheDefaults: as it stands the example changes nothing.
func TestExampleShowsTheDefaults(t *testing.T) {
	shown, err := Load(example, home)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := Load("", home)
	if err != nil {
		t.Fatal(err)
	}
	// As text, in which an empty list is one, however it came to be.
	for _, section := range [][2]any{{shown.Proxy, defaults.Proxy}, {shown.Relay, defaults.Relay}} {
		if got, want := fmt.Sprintf("%+v", section[0]), fmt.Sprintf("%+v", section[1]); got != want {
			t.Errorf("\nexample  %s\ndefaults %s", got, want)
		}
	}
}

// TestExampleShowsEveryKey: as a value, or as a comment that can be switched on.
func TestExampleShowsEveryKey(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	on := regexp.MustCompile(`(?m)^(  )# ([a-z_]+: \S+)$`).ReplaceAll(data, []byte("$1$2"))
	f, err := Parse(example, on, home)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range keyPaths("", reflect.TypeFor[File]()) {
		if _, shown := f.positions[path]; !shown {
			t.Errorf("%s is not shown", path)
		}
	}
}

// keyPaths lists every key that a struct has.
func keyPaths(prefix string, t reflect.Type) (paths []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" {
			continue
		}
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if sub := keyPaths(path, structOf(field.Type)); len(sub) > 0 {
			paths = append(paths, sub...)
		} else {
			paths = append(paths, path)
		}
	}
	return paths
}

func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Struct {
		return t
	}
	return reflect.TypeFor[struct{}]()
}
