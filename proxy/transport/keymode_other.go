//go:build !unix

package transport

import "io/fs"

// closedToOthers is true: there are no such modes here.
func closedToOthers(fs.FileInfo) bool { return true }
