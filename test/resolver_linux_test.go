package test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// resolverIP is the name server of every namespace. Nobody answers there before resolve.
const resolverIP = "127.0.0.53"

// resolver is a name server.
type resolver struct {
	names  map[string]string // and their IPv4 addresses
	silent atomic.Bool       // it hears and says nothing
	asked  atomic.Int32      // how often
}

// answerNothing runs a name server in a namespace that knows no name, until the test ends.
func (l *lab) answerNothing(t *testing.T, r role) {
	t.Helper()
	l.resolve(t, r, nil)
}

// resolve runs a name server in a namespace, until the test ends.
func (l *lab) resolve(t *testing.T, r role, names map[string]string) *resolver {
	t.Helper()
	var conn net.PacketConn
	l.check(inNamespace(l.ns(r), func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp", resolverIP+":53")
		return err
	}))
	server := &resolver{names: names}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			server.asked.Add(1)
			if server.silent.Load() {
				continue
			}
			if answer, err := server.answer(buf[:n]); err == nil {
				conn.WriteTo(answer, peer)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return server
}

func (s *resolver) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return nil, err
	}
	header.Response = true
	answer := dnsmessage.Message{Header: header, Questions: questions}
	for _, q := range questions {
		ip, err := netip.ParseAddr(s.names[strings.TrimSuffix(q.Name.String(), ".")])
		switch {
		case err != nil:
			answer.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			answer.Answers = append(answer.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: ip.As4()},
			})
		}
	}
	return answer.Pack()
}
