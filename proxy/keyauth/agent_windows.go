package keyauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// noAgent says that there is none to ask.
const noAgent = "no ssh-agent: neither OpenSSH's agent (Start-Service ssh-agent) nor Pageant runs"

const (
	// pipePrefix begins the name of a named pipe.
	pipePrefix = `\\.\pipe\`
	// opensshPipe is where the ssh-agent of OpenSSH for Windows listens.
	opensshPipe = pipePrefix + "openssh-ssh-agent"
	// pipePause is how long an agent that has no pipe free is left alone.
	pipePause = 20 * time.Millisecond
)

// systemAgents are where agents may be that nobody has named: OpenSSH's and
// PuTTY's.
func systemAgents() []string {
	agents := []string{opensshPipe}
	if user := userName(); user != "" {
		agents = append(agents, pageantPipe(user))
	}
	return agents
}

// pageantPipe is where Pageant listens for a user, since PuTTY 0.75. The last part
// of the name is other for each user and after each start of Windows.
func pageantPipe(user string) string {
	const crossProcess = 1 // CRYPTPROTECTMEMORY_CROSS_PROCESS
	var block [16]byte     // CRYPTPROTECTMEMORY_BLOCK_SIZE
	copy(block[:], "Pageant")
	protect := windows.NewLazySystemDLL("crypt32.dll").NewProc("CryptProtectMemory")
	if protect.Find() == nil { // Pageant goes on without, too
		_, _, _ = protect.Call(uintptr(unsafe.Pointer(&block)), unsafe.Sizeof(block), crossProcess)
	}
	// As an ssh string: its length comes first.
	sum := sha256.Sum256(append([]byte{0, 0, 0, byte(len(block))}, block[:]...))
	return pipePrefix + "pageant." + user + "." + hex.EncodeToString(sum[:])
}

// userName is this user's as Pageant spells it: of the principal, where there is a
// domain, else of the account.
func userName() string {
	for _, format := range []uint32{windows.NameUserPrincipal, windows.NameSamCompatible} {
		name := make([]uint16, 512)
		size := uint32(len(name))
		if err := windows.GetUserNameEx(format, &name[0], &size); err != nil {
			continue
		}
		user, _, _ := strings.Cut(windows.UTF16ToString(name), "@")
		if user = user[strings.LastIndex(user, `\`)+1:]; user != "" {
			return user
		}
	}
	return ""
}

func dialAgent(ctx context.Context, socket string) (io.ReadWriteCloser, error) {
	if name := strings.ReplaceAll(socket, "/", `\`); strings.HasPrefix(strings.ToLower(name), pipePrefix) {
		return dialPipe(ctx, name)
	}
	return new(net.Dialer).DialContext(ctx, "unix", socket)
}

// dialPipe opens a named pipe. Any program may have made it, so that its other end
// learns who we are and may not act as us, and must be this user's or the system's.
func dialPipe(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	for {
		h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING,
			windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT|windows.SECURITY_IDENTIFICATION, 0)
		switch {
		case err == nil:
			if err := checkPipeOwner(h); err != nil {
				_ = windows.CloseHandle(h)
				return nil, fmt.Errorf("open %s: %w", path, err)
			}
			return os.NewFile(uintptr(h), path), nil
		case !errors.Is(err, windows.ERROR_PIPE_BUSY):
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		select {
		case <-time.After(pipePause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// checkPipeOwner refuses a pipe that another user has made.
func checkPipeOwner(pipe windows.Handle) error {
	sd, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("find its owner: %w", err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("find its owner: %w", err)
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("find this user: %w", err)
	}
	// A service's is the administrators'.
	if owner.Equals(me.User.Sid) || owner.IsWellKnown(windows.WinLocalSystemSid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) {
		return nil
	}
	return fmt.Errorf("it belongs to another user (%s)", owner)
}
