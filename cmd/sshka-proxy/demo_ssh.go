package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// demoServer is an ssh server on loopback whose shell echoes lines. Only the
// demo's own key may log in.
type demoServer struct {
	config *ssh.ServerConfig
	host   ssh.PublicKey
	user   ssh.Signer
	ln     net.Listener
}

func newDemoServer(ctx context.Context) (*demoServer, error) {
	host, err := newDemoKey()
	if err != nil {
		return nil, err
	}
	user, err := newDemoKey()
	if err != nil {
		return nil, err
	}
	s := &demoServer{host: host.PublicKey(), user: user}
	s.config = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if bytes.Equal(key.Marshal(), user.PublicKey().Marshal()) {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("not the demo's key")
		},
	}
	s.config.AddHostKey(host)
	if s.ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	context.AfterFunc(ctx, func() { s.ln.Close() })
	return s, nil
}

func newDemoKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromSigner(private)
}

func (s *demoServer) addr() string { return s.ln.Addr().String() }

// serve accepts until the listener is closed and returns when all have left.
func (s *demoServer) serve() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			conn, channels, requests, err := ssh.NewServerConn(c, s.config)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			for nc := range channels {
				if nc.ChannelType() != "session" {
					_ = nc.Reject(ssh.UnknownChannelType, "only session")
					continue
				}
				ch, reqs, err := nc.Accept()
				if err != nil {
					break
				}
				go acceptAll(reqs)
				go func() {
					_, _ = io.Copy(ch, ch) // the echo
					ch.Close()
				}()
			}
			_ = conn.Wait()
		})
	}
}

// acceptAll says yes to every request: a terminal, a shell.
func acceptAll(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.WantReply {
			_ = r.Reply(true, nil)
		}
	}
}

// demoShell is an ssh client that is logged in.
type demoShell struct {
	client *ssh.Client
	in     io.WriteCloser
	out    *bufio.Reader
}

// newDemoShell logs in over conn, which it owns. ssh checks the host key itself,
// whatever carries its bytes.
func newDemoShell(conn net.Conn, server *demoServer) (*demoShell, error) {
	c, channels, requests, err := ssh.NewClientConn(conn, "demo", &ssh.ClientConfig{
		User:            "demo",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(server.user)},
		HostKeyCallback: ssh.FixedHostKey(server.host),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	sh := &demoShell{client: ssh.NewClient(c, channels, requests)}
	session, err := sh.client.NewSession()
	if err != nil {
		sh.close()
		return nil, err
	}
	stdout, err := session.StdoutPipe()
	if err == nil {
		sh.in, err = session.StdinPipe()
	}
	if err == nil {
		err = session.Shell()
	}
	if err != nil {
		sh.close()
		return nil, err
	}
	sh.out = bufio.NewReader(stdout)
	return sh, nil
}

// echo types a line and waits for it to come back.
func (sh *demoShell) echo(line string) error {
	if _, err := fmt.Fprintln(sh.in, line); err != nil {
		return sh.cause(err)
	}
	got, err := sh.out.ReadString('\n')
	if err != nil {
		return sh.cause(err)
	}
	if strings.TrimSpace(got) != line {
		return fmt.Errorf("typed %q, came back %q", line, got)
	}
	return nil
}

// cause is why the connection ended, where it has: the session only sees an end.
func (sh *demoShell) cause(err error) error {
	if errors.Is(err, io.EOF) {
		if why := sh.client.Wait(); why != nil {
			return why
		}
	}
	return err
}

func (sh *demoShell) close() { sh.client.Close() }
