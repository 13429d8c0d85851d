package inbound

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// createPrivate makes a file that only this user and the system may open, whatever
// its directory hands down, and which must not be there.
func createPrivate(path string) (*os.File, error) {
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find this user: %w", err)
	}
	// Protected from inheritance; full access for two and nobody else.
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;" + me.User.Sid.String() + ")(A;;FA;;;SY)")
	if err != nil {
		return nil, fmt.Errorf("describe who may read %s: %w", path, err)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, windows.FILE_SHARE_READ, sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}
