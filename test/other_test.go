//go:build !linux

package test

import "testing"

func TestEndToEnd(t *testing.T) {
	t.Skip("the end-to-end tests need the network namespaces of Linux")
}
