package splice

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// pumping is a Pumper that nobody may read.
type pumping struct {
	abortable
	t *testing.T
}

func (p *pumping) Read([]byte) (int, error) {
	p.t.Error("a Pumper is read")
	return 0, io.EOF
}

func (p *pumping) Pump(w io.Writer, done func(int64, error)) {
	go func() { done(io.Copy(w, p.Conn)) }()
}

func TestAPumperIsPumped(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(j *joined)
		want Result
	}{
		"it ends": {func(j *joined) {
			j.a.CloseWrite()
			io.ReadAll(j.b)
			j.b.CloseWrite()
		}, Result{AToB: 4, BToA: 5}},
		"it is cut": {func(j *joined) { j.a.Cut() }, Result{AToB: 4, BToA: 5, Err: &Error{Side: A, Op: "read"}}},
		"the other is cut": {func(j *joined) {
			j.b.Cut()
		}, Result{AToB: 4, BToA: 5, Err: &Error{Side: B, Op: "read"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &joined{}
				var na, nb *simnet.Conn
				j.a, na = simnet.Pipe(simnet.Line{})
				j.b, nb = simnet.Pipe(simnet.Line{})
				j.wg.Go(func() {
					j.result = Join(context.Background(), &pumping{abortable{Conn: na}, t}, &abortable{Conn: nb})
				})
				j.a.Write([]byte("ping"))
				j.b.Write([]byte("pong!"))
				synctest.Wait()
				tt.end(j)
				r := j.end()
				var got, want *Error
				if errors.As(tt.want.Err, &want) && (!errors.As(r.Err, &got) || got.Side != want.Side || got.Op != want.Op) || want == nil && r.Err != nil {
					t.Errorf("ended with %v, want %v", r.Err, tt.want.Err)
				}
				if r.AToB != tt.want.AToB || r.BToA != tt.want.BToA {
					t.Errorf("%+v, want %+v", r, tt.want)
				}
			})
		})
	}
}
