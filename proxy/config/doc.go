// Package config turns one YAML file into values that are checked, with every
// complaint naming file, line and key.
//
// A program does
//
//	path := config.Find(flag, os.Getenv)
//	file, err := config.Load(path, os.Getenv)
//
// and gets all that is wrong in one error, a line for each. An absent key has
// its default (Defaults); 0 means off; an unknown key is an error. There are no
// anchors, aliases or tags: what is read is what stands there.
package config
