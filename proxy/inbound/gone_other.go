//go:build !unix

package inbound

import (
	"errors"
	"os"
)

// readerGone fails: this system does not tell.
func readerGone(*os.File) (bool, error) { return false, errors.ErrUnsupported }
