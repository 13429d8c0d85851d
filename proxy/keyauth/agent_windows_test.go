package keyauth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/windows"
)

// makePipe makes the one end of a named pipe that is this user's.
func makePipe(t *testing.T, path string, flags uint32) windows.Handle {
	t.Helper()
	name, err := windows.UTF16PtrFromString(path)
	must(t, err)
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	must(t, err)
	sid := me.User.Sid.String()
	sd, err := windows.SecurityDescriptorFromString("O:" + sid + "D:(A;;FA;;;" + sid + ")") // Wine gives it no owner by itself
	must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX|flags, windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS, 1, 4096, 4096, 0, sa)
	must(t, err)
	return h
}

// servePipe lets a serve one client at a named pipe.
func servePipe(t *testing.T, path string, a agent.Agent) {
	t.Helper()
	h := makePipe(t, path, windows.FILE_FLAG_OVERLAPPED)
	f := os.NewFile(uintptr(h), path)
	var wg sync.WaitGroup
	wg.Go(func() {
		for { // a client is there, or has been
			err := windows.ConnectNamedPipe(h, new(windows.Overlapped))
			if errors.Is(err, windows.ERROR_PIPE_CONNECTED) || errors.Is(err, windows.ERROR_NO_DATA) {
				break
			}
			if !errors.Is(err, windows.ERROR_IO_PENDING) && !errors.Is(err, windows.ERROR_PIPE_LISTENING) {
				return
			}
			time.Sleep(time.Millisecond)
		}
		_ = agent.ServeAgent(a, f)
	})
	t.Cleanup(func() {
		f.Close()
		wg.Wait()
	})
}

func TestAnAgentIsAskedThroughItsPipe(t *testing.T) {
	k := generate(t, "ed25519")
	const path = pipePrefix + "sshka-test-agent"
	servePipe(t, path, keyring(t, k))
	ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: "//./pipe/sshka-test-agent"})
	if got := sources(ids); !slices.Equal(got, []string{FromAgent}) {
		t.Errorf("from %q", got)
	}
}

// TestAnAgentThatSaysNothingIsLeft: closing a pipe ends a read of it.
func TestAnAgentThatSaysNothingIsLeft(t *testing.T) {
	const path = pipePrefix + "sshka-test-silent"
	h := makePipe(t, path, 0)
	defer windows.CloseHandle(h)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := listAgent(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestABusyAgentIsWaitedFor, as long as there is time.
func TestABusyAgentIsWaitedFor(t *testing.T) {
	const path = pipePrefix + "sshka-test-busy"
	h := makePipe(t, path, 0)
	defer windows.CloseHandle(h)
	taken, err := dialPipe(t.Context(), path) // the only one
	must(t, err)
	defer taken.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*pipePause)
	defer cancel()
	if _, err := dialPipe(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestTheAgentsOfWindows(t *testing.T) {
	agents := systemAgents()
	if len(agents) != 2 || agents[0] != `\\.\pipe\openssh-ssh-agent` {
		t.Fatalf("%q", agents)
	}
	// PuTTY's: the account without its domain, and 64 digits that stay the same.
	rest, found := strings.CutPrefix(agents[1], `\\.\pipe\pageant.`)
	user, digits, _ := strings.Cut(rest, ".")
	if !found || user == "" || strings.ContainsAny(user, `\@`) || len(digits) != 64 || !slices.Equal(agents, systemAgents()) {
		t.Errorf("%q", agents)
	}
	if _, err := dialPipe(t.Context(), pipePrefix+"sshka-test-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
