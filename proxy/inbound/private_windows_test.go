package inbound

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// TestTheFileIsClosedToOthers, whatever its directory hands down.
func TestTheFileIsClosedToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.sock")
	if err := writePrivate(path, "text"); err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(path, "text"); err == nil {
		t.Error("a file that is there was taken")
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	text := sd.String()
	if strings.Contains(text, ";;;WD)") || strings.Contains(text, ";;;BU)") || strings.Contains(text, ";;;AU)") || strings.Count(text, "(A;") > 2 {
		t.Errorf("others may read it: %s", text)
	}
}
