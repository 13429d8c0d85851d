package inbound

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// pipes returns a Stdio and the client's ends of it.
func pipes(t *testing.T) (s *Stdio, stdin, stdout *os.File) {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{inR, inW, outR, outW} {
			f.Close()
		}
	})
	return NewStdio(inR, outW), inW, outR
}

func TestWhatIsSaidFirstIsEarlyAndReadOnce(t *testing.T) {
	s, stdin, _ := pipes(t)
	stdin.WriteString("SSH-2.0-test\r\n")
	s.fill()
	if got := s.Early(); string(got) != "SSH-2.0-test\r\n" {
		t.Errorf("early %q", got)
	}
	stdin.WriteString("more")
	stdin.Close()
	if got, err := io.ReadAll(s); string(got) != "more" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEarlyDoesNotWait(t *testing.T) {
	s, stdin, _ := pipes(t)
	if got := s.Early(); len(got) != 0 {
		t.Errorf("early %q", got)
	}
	data := bytes.Repeat([]byte("x"), 100_000)
	go func() {
		stdin.Write(data)
		stdin.Close()
	}()
	if got, err := io.ReadAll(s); !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestCloseWriteEndsTheOutput(t *testing.T) {
	s, _, stdout := pipes(t)
	io.WriteString(s, "bye")
	s.CloseWrite()
	if got, err := io.ReadAll(stdout); string(got) != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestGoneOnlyWhenBothAre(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this system does not tell who reads a pipe")
	}
	s, stdin, stdout := pipes(t)
	stdin.Close()
	io.ReadAll(s)
	select {
	case <-s.Gone():
		t.Error("gone while the output is read")
	default:
	}
	stdout.Close()
	select {
	case <-s.Gone():
	case <-time.After(10 * time.Second):
		t.Error("not noticed")
	}
}

func TestCloseEndsABlockedRead(t *testing.T) {
	s, _, _ := pipes(t)
	done := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 1))
		done <- err
	}()
	s.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestWriteToLosesNothing(t *testing.T) {
	s, stdin, _ := pipes(t)
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		stdin.Write(data)
		stdin.Close()
	}()
	var got bytes.Buffer
	got.Write(s.Early())
	early := got.Len()
	if n, err := s.WriteTo(&got); err != nil || int(n) != got.Len()-early {
		t.Errorf("%d, %v", n, err)
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d bytes of %d", got.Len(), len(data))
	}
}
