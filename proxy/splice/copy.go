package splice

import (
	"errors"
	"io"

	"github.com/sshka/sshka-proxy/proxy/internal/socket"
)

// Copy writes to dst what it reads from src, until src ends, and returns how many
// bytes it wrote. From a socket (a syscall.Conn, where the system can) it holds no
// buffer while it waits: of thousands of connections most are idle.
func Copy(dst io.Writer, src io.Reader) (total int64, err error) {
	read := func() (*[]byte, int, error) {
		b := socket.Take()
		n, err := src.Read(*b)
		return b, n, err
	}
	if r := socket.NewReader(src); r != nil {
		read = r.Read
	}
	for {
		b, n, err := read()
		if n > 0 {
			m, werr := dst.Write((*b)[:n])
			total += int64(m)
			if werr != nil {
				err = werr
			}
		}
		socket.Free(b)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
	}
}
