package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

func TestAnIdleDayThroughANATThatForgets(t *testing.T) {
	for _, reset := range []bool{false, true} {
		simnet.Bubble(t, func(t *testing.T) {
			h := build(t, options{line: simnet.Line{Delay: 30 * time.Millisecond, NAT: simnet.NAT{Idle: 30 * time.Second, Reset: reset}}})
			c := h.dial(t)
			roundTrip(t, c, "good morning")
			time.Sleep(24 * time.Hour)
			roundTrip(t, c, "still here")
			if h.missed.Load() != 0 {
				t.Errorf("%d beats missed", h.missed.Load())
			}
			c.Close()
			h.close()
		})
	}
}

// TestWithoutBeatsTheNATForgets is the proof that the one before proves
// something.
func TestWithoutBeatsTheNATForgets(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{NAT: simnet.NAT{Idle: 30 * time.Second, Reset: true}},
			heartbeat: heartbeat.Policy{Interval: heartbeat.Off},
		})
		c := h.dial(t)
		roundTrip(t, c, "good morning")
		time.Sleep(time.Minute)
		io.WriteString(c, "anyone?")
		_, err := io.ReadAll(c)
		var lost *link.LostError
		if !errors.As(err, &lost) || lost.Reason != link.Reset {
			t.Errorf("%v", err)
		}
		h.close()
	})
}

// TestASaturatedSlowLineIsNeverLost: bulk fills a line of 64 kbit/s for minutes,
// with a timeout of a second.
func TestASaturatedSlowLineIsNeverLost(t *testing.T) {
	const rate, minutes = 8000, 5
	for name, tt := range map[string]struct{ up, down bool }{
		"up": {up: true}, "down": {down: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				data := random(rate * 60 * minutes)
				h := build(t, options{
					line:      simnet.Line{Rate: rate, Delay: 50 * time.Millisecond, Buffer: 64 << 10},
					heartbeat: heartbeat.Policy{Interval: time.Second, Timeout: time.Second, CountMax: 3},
					target: func(c *simnet.Conn) {
						var wg sync.WaitGroup
						wg.Go(func() {
							if tt.down {
								c.Write(data)
							}
							c.CloseWrite()
						})
						got, err := io.ReadAll(c)
						if tt.up && !bytes.Equal(got, data) || err != nil {
							t.Errorf("the target read %d bytes, %v", len(got), err)
						}
						wg.Wait()
					},
				})
				start := time.Now()
				c := h.dial(t)
				var wg sync.WaitGroup
				wg.Go(func() {
					if tt.up {
						c.Write(data)
					}
					c.CloseWrite()
				})
				got, err := io.ReadAll(c)
				if tt.down && !bytes.Equal(got, data) || err != nil {
					t.Errorf("the client read %d bytes, %v", len(got), err)
				}
				wg.Wait()
				<-c.Done()
				t.Logf("%v for %d bytes, %d beats missed", time.Since(start), len(data), h.missed.Load())
				if d := time.Since(start); d < minutes*time.Minute*9/10 {
					t.Errorf("took only %v: the line was not full", d)
				}
				h.close()
				if len(h.lost) != 1 || h.lost[0].Reason != link.Shutdown {
					t.Errorf("lost: %v", h.lost)
				}
			})
		})
	}
}

func TestALostLinkIsDialledAgain(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Delay: 10 * time.Millisecond}})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.cut()
		_, err := c.Read(make([]byte, 1))
		var lost *client.LostError
		if !errors.As(err, &lost) || !strings.Contains(err.Error(), "the link to relay relay.test:7422 was lost (reset)") {
			t.Errorf("%v", err)
		}
		start := time.Now()
		again := h.dial(t)
		roundTrip(t, again, "after")
		if d := time.Since(start); d > time.Second {
			t.Errorf("the next link took %v", d)
		}
		again.Close()
		h.close()
	})
}

func TestTheRelayTellsTheTruth(t *testing.T) {
	for message, tt := range map[string]struct {
		err  error
		addr string
		code wire.Code
	}{
		"10.1.2.3:22 refused the connection":             {syscall.ECONNREFUSED, "10.1.2.3:22", wire.CodeRefused},
		"no route to 10.1.2.3:22":                        {syscall.EHOSTUNREACH, "10.1.2.3:22", wire.CodeUnreachable},
		"192.168.1.1:22 is not allowed by this relay":    {nil, "192.168.1.1:22", wire.CodeNotAllowed},
		"10.1.2.3:22 did not answer within 10s":          {context.DeadlineExceeded, "10.1.2.3:22", wire.CodeTimeout},
		"name.test:22 is not allowed by this relay":      {nil, "name.test:22", wire.CodeNotAllowed},
		"[2001:db8::1]:22 is not allowed by this relay":  {nil, "[2001:db8::1]:22", wire.CodeNotAllowed},
		"the relay failed to connect to 10.1.2.3:22":     {errors.New("secret detail"), "10.1.2.3:22", wire.CodeFailed},
		"the relay has no room for a connection to 10.1": {syscall.EMFILE, "10.1.2.3:22", wire.CodeBusy},
	} {
		simnet.Bubble(t, func(t *testing.T) {
			h := build(t, options{dialErr: tt.err})
			_, err := h.client.DialContext(t.Context(), "tcp", tt.addr)
			var refused *session.RefusedError
			if !errors.As(err, &refused) || refused.Code != tt.code || !strings.HasPrefix(err.Error(), message) {
				// name.test needs look-up, as a CIDR may allow it
				if tt.addr != "name.test:22" {
					t.Errorf("%s: %v", tt.addr, err)
				}
			}
			h.close()
		})
	}
}

func TestHalfCloseBothWays(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{target: func(c *simnet.Conn) {
			io.WriteString(c, "220 hello\n") // the server speaks first
			got, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			time.Sleep(3 * time.Hour) // and answers late
			c.Write(bytes.ToUpper(got))
			c.CloseWrite()
		}})
		c := h.dial(t)
		io.WriteString(c, "quiet please")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if string(got) != "220 hello\nQUIET PLEASE" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		<-c.Done()
		if c.Err() != nil {
			t.Error(c.Err())
		}
		h.close()
	})
}

func TestAReaderThatStopsForMinutesHoldsTheTarget(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		data := random(20 << 20)
		done := false
		h := build(t, options{target: func(c *simnet.Conn) {
			c.Write(data)
			c.CloseWrite()
			done = true
			io.Copy(io.Discard, c)
		}})
		c := h.dial(t)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if done {
			t.Error("20 MiB went into a session that holds 4")
		}
		got, err := io.ReadAll(c)
		if !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		c.Close()
		h.close()
	})
}

func TestATargetsResetIsAReset(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{target: func(c *simnet.Conn) {
			io.WriteString(c, "bye")
			time.Sleep(time.Second)
			c.Cut()
		}})
		c := h.dial(t)
		got, err := io.ReadAll(c)
		var reset *session.ResetError
		if string(got) != "bye" || !errors.As(err, &reset) || reset.Code != wire.CodeTargetReset {
			t.Errorf("%q, %v", got, err)
		}
		h.close()
	})
}

func TestAnEndingRelaySaysSo(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{})
		c := h.dial(t)
		roundTrip(t, c, "before")
		h.stopServ()
		_, err := io.ReadAll(c)
		var reset *session.ResetError
		if !errors.As(err, &reset) || reset.Code != wire.CodeShuttingDown {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		h.close()
		if len(h.lost) == 0 || h.lost[0].Reason != link.Shutdown {
			t.Errorf("%v", h.lost)
		}
	})
}

// TestManySessionsShareALink: fifty of them, each with its own bytes.
func TestManySessionsShareALink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Rate: 1 << 20, Delay: 20 * time.Millisecond}})
		var wg sync.WaitGroup
		for i := range 50 {
			c := h.dial(t)
			data := random(10_000 + i)
			wg.Go(func() {
				c.Write(data)
				c.CloseWrite()
			})
			wg.Go(func() {
				if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
					t.Errorf("session %d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		wg.Wait()
		h.close()
	})
}

// TestJoinOverASession: what a ProxyCommand does, end to end.
func TestJoinOverASession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{})
		c := h.dial(t)
		user, local := simnet.Pipe(simnet.Line{})
		var r splice.Result
		h.wg.Go(func() { r = splice.Join(context.Background(), local, c) })
		data := random(1 << 20)
		go func() {
			user.Write(data)
			user.CloseWrite()
		}()
		if got, err := io.ReadAll(user); !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		h.close()
		user.Close()
		if r.Err != nil || r.AToB != 1<<20 || r.BToA != 1<<20 {
			t.Errorf("%+v", r)
		}
	})
}

func random(n int) []byte {
	r := mathrand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// TestASessionThatFailsFreesItsTarget: while both copiers wait for the target, the
// proxy resets, its link is lost, or the relay ends. The target neither reads nor
// says nor closes anything.
func TestASessionThatFailsFreesItsTarget(t *testing.T) {
	for name, fail := range map[string]func(h *house, c *session.Session){
		"reset":    func(_ *house, c *session.Session) { c.Abort(errors.New("gone")) },
		"link":     func(h *house, _ *session.Session) { h.cut() },
		"shutdown": func(h *house, _ *session.Session) { h.stopServ() },
	} {
		for _, upload := range []int{0, 20 << 20} {
			t.Run(name, func(t *testing.T) {
				simnet.Bubble(t, func(t *testing.T) {
					release := make(chan struct{})
					h := build(t, options{target: func(*simnet.Conn) { <-release }})
					c := h.dial(t)
					if upload > 0 {
						go c.Write(random(upload))
					} else {
						c.CloseWrite()
					}
					time.Sleep(time.Minute)
					fail(h, c)
					time.Sleep(time.Second)
					synctest.Wait()
					if h.ended.Load() != 1 {
						t.Error("the target is held")
					}
					close(release)
					h.close()
				})
			})
		}
	}
}
