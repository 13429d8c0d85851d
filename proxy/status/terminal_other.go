//go:build !unix

package status

import "os"

// terminalSize is not known here.
func terminalSize(*os.File) (rows, columns int) { return 0, 0 }
