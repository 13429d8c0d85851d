package link

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAPlainPeersSmallWindowIsHonoured: yamux ends the session when its window is not.
func TestAPlainPeersSmallWindowIsHonoured(t *testing.T) {
	for _, client := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			o, ours, mux, theirs := plain(t, quiet, client)
			data := random(3<<20 + 17)
			wrote := make(chan error, 1)
			go func() {
				_, err := ours.Write(data)
				wrote <- err
				ours.Close()
			}()
			time.Sleep(time.Minute)
			o.mu.Lock()
			if c := ours.(*carrier); c.window != 0 || len(c.pending) != len(data)-muxWindow {
				t.Errorf("client %v: window %d, %d bytes wait of %d", client, c.window, len(c.pending), len(data))
			}
			o.mu.Unlock()
			got, err := slowly(theirs)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %v: %d bytes of %d, %v", client, len(got), len(data), err)
			}
			if err := <-wrote; err != nil {
				t.Errorf("client %v: write: %v", client, err)
			}
			if err := o.Err(); err != nil || mux.IsClosed() {
				t.Errorf("client %v: %v", client, err)
			}
			mux.Close()
			o.close()
		})
	}
}

// TestASlowReaderGetsAllOfAPlainPeer: what is granted and what arrives agree to the byte,
// many windows long.
func TestASlowReaderGetsAllOfAPlainPeer(t *testing.T) {
	for _, client := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			cfg := quiet
			cfg.Window = muxWindow
			o, ours, mux, theirs := plain(t, cfg, client)
			data := random(5<<20 + 17)
			go func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+len(rest)%maxChunk)
					if _, err := theirs.Write(rest[:n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					rest = rest[n:]
				}
				theirs.Close()
			}()
			got, err := slowly(ours)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("client %v: %d bytes of %d, %v", client, len(got), len(data), err)
			}
			synctest.Wait()
			c := ours.(*carrier)
			o.mu.Lock()
			if sum := c.granted + c.owed + c.unread; sum != muxWindow {
				t.Errorf("client %v: granted %d, owed %d, read since %d: %d in all", client, c.granted, c.owed, c.unread, sum)
			}
			o.mu.Unlock()
			if n := held(&o.unread); n != 0 {
				t.Errorf("client %v: %d bytes counted as unread", client, n)
			}
			mux.Close()
			o.close()
		})
	}
}

// TestManyWindowsPassOneAfterTheOther: a byte lost in each grant would stop it.
func TestManyWindowsPassOneAfterTheOther(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		p := join(t, simnet.Line{}, cfg, cfg)
		a, b := p.carriers(t)
		const total = 400 * muxWindow
		go func() {
			for n, k := 0, 0; n < total; k++ {
				m := min(total-n, 1+k*7919%(3*muxWindow/2))
				if _, err := a.Write(make([]byte, m)); err != nil {
					t.Error(err)
					return
				}
				n += m
			}
			a.Close()
		}()
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, b, make([]byte, 40_001)); n != total || err != nil {
			t.Errorf("%d of %d bytes, %v", n, total, err)
		}
		p.close()
	})
}

func TestDataBeyondTheWindowEndsTheLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		o := newLone(t, simnet.Line{}, cfg, false)
		o.says(controlStream, muxSignal(muxSYN, 3))
		for range 8 {
			o.says(muxData(0, 3, strings.Repeat("x", muxWindow/8)))
		}
		if err := o.Err(); err != nil {
			t.Errorf("within the window: %v", err)
		}
		o.says(muxData(0, 3, "x"))
		if o.Err() == nil {
			t.Error("one byte more: the link lives on")
		}
		if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
			t.Errorf("%v", lost)
		}
	})
}

// TestTheControlStreamsWindowMovesOn: what is read at once is granted anew.
func TestTheControlStreamsWindowMovesOn(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		cfg := quiet
		cfg.Window = muxWindow
		o := newLone(t, simnet.Line{}, cfg, false)
		o.says(controlStream)
		message := append(wire.AppendHeader(nil, wire.Header{Type: 0x99, Length: 1020}), make([]byte, 1020)...)
		for range 80 {
			o.says(muxData(0, 1, strings.Repeat(string(message), muxWindow/8/1024)))
		}
		if err := o.Err(); err != nil {
			t.Error(err)
		}
		o.close()
	})
}
