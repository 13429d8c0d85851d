package test

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// resolverIP is the name server of every namespace. Nobody answers there before answerNothing.
const resolverIP = "127.0.0.53"

// answerNothing runs a name server in a namespace that knows no name, until the test ends.
func (l *lab) answerNothing(t *testing.T, r role) {
	t.Helper()
	var conn net.PacketConn
	l.check(inNamespace(l.ns(r), func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp", resolverIP+":53")
		return err
	}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := noSuchName(buf[:n]); err == nil {
				conn.WriteTo(answer, peer)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
}

func noSuchName(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return nil, err
	}
	header.Response, header.RCode = true, dnsmessage.RCodeNameError
	answer := dnsmessage.Message{Header: header, Questions: questions}
	return answer.Pack()
}
