package config

import "reflect"

// Changes returns the paths of all keys of a section, "proxy" or "relay", whose
// values differ in the two configurations, in the order in which File has them:
// "relay.allow", "relay.heartbeat.interval".
func Changes(section string, a, b *File) []string {
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		if va.Type().Field(i).Tag.Get("yaml") == section {
			return changes(section, va.Field(i), vb.Field(i))
		}
	}
	return nil
}

// changes compares two structs.
func changes(path string, a, b reflect.Value) (paths []string) {
	for i := range a.NumField() {
		key := a.Type().Field(i).Tag.Get("yaml")
		fa, fb := a.Field(i), b.Field(i)
		switch {
		case key == "":
		case isSection(fa.Addr().Interface()):
			paths = append(paths, changes(path+"."+key, fa, fb)...)
		case fa.Kind() == reflect.Slice && fa.Len() == 0 && fb.Len() == 0: // nil or not
		case !reflect.DeepEqual(fa.Interface(), fb.Interface()):
			paths = append(paths, path+"."+key)
		}
	}
	return paths
}
