package link

import (
	"errors"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestViolations: each is one frame after a proxy has opened the control stream and two
// more, the second of which has ended.
func TestViolations(t *testing.T) {
	for name, frame := range map[string][]byte{
		"version 1":               {1, muxTypeWindow, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0},
		"unknown type":            muxFrame(4, 0, 3, 0, ""),
		"ping":                    muxFrame(muxTypePing, muxSYN, 0, 0, ""),
		"answer to a ping":        muxFrame(muxTypePing, muxACK, 0, 0, ""),
		"stream 0":                muxSignal(muxSYN, 0),
		"stream 0 with data":      muxData(muxSYN, 0, "x"),
		"opened twice":            muxSignal(muxSYN, 3),
		"opened twice with data":  muxData(muxSYN, 3, "x"),
		"ended twice":             muxSignal(muxFIN, 5),
		"ended twice with data":   muxData(muxFIN, 5, "x"),
		"control stream ended":    muxSignal(muxFIN, 1),
		"control stream reset":    muxSignal(muxRST, 1),
		"too large":               muxFrame(muxTypeData, 0, 3, maxChunk+1, ""),
		"much too large":          muxFrame(muxTypeData, 0, 3, 1<<31, ""),
		"as large as can be":      muxFrame(muxTypeData, 0, 3, math.MaxUint32, ""),
		"too large, unknown":      muxFrame(muxTypeData, 0, 77, math.MaxUint32, ""),
		"window":                  muxFrame(muxTypeWindow, 0, 3, math.MaxUint32, ""),
		"go away for an error":    muxFrame(muxGoAway, 0, 0, 1, ""),
		"go away, unknown reason": muxFrame(muxGoAway, 0, 0, 99, ""),
		"unknown control message": muxData(0, 1, "\x40\x00\x00\x00"),
		"session's message":       muxData(0, 1, string(wire.Append(nil, &wire.Fin{}))),
		"control message's end":   muxData(muxFIN, 1, string(wire.Append(nil, &wire.Beat{Seq: 1}))),
	} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, false)
			o.says(controlStream, muxSignal(muxSYN, 3), muxSignal(muxSYN|muxFIN, 5))
			c := o.accept1(t)
			o.accept1(t)
			if err := o.Err(); err != nil {
				t.Errorf("%s: before: %v", name, err)
			}
			o.says(frame)
			if o.Err() == nil {
				t.Errorf("%s: the link lives on", name)
			}
			if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
				t.Errorf("%s: %v", name, lost)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.As(err, new(*LostError)) {
				t.Errorf("%s: read: %v", name, err)
			}
			if _, err := c.Write(make([]byte, 1)); !errors.As(err, new(*LostError)) {
				t.Errorf("%s: write: %v", name, err)
			}
		})
	}
}

// TestARelayMayNotOpenStreams, in whatever kind of frame.
func TestARelayMayNotOpenStreams(t *testing.T) {
	for _, frame := range [][]byte{muxSignal(muxSYN, 2), muxSignal(muxSYN, 7), muxData(muxSYN, 2, "x"), muxData(muxSYN|muxRST, 2, "")} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, true)
			synctest.Wait()
			o.says(frame)
			if lost := o.close(); lost.Reason != Protocol || !errors.Is(lost.Err, wire.ErrProtocol) {
				t.Errorf("%x: %v", frame, lost)
			}
		})
	}
}

// TestOddFramesAreNoViolation: yamux takes them, too.
func TestOddFramesAreNoViolation(t *testing.T) {
	for name, frame := range map[string][]byte{
		"go away":                  muxFrame(muxGoAway, 0, 0, 0, ""),
		"go away with flags":       muxFrame(muxGoAway, muxSYN|muxFIN|muxRST, 3, 0, ""),
		"empty data frame":         muxData(0, 3, ""),
		"unknown stream ended":     muxSignal(muxFIN, 77),
		"unknown stream's window":  muxFrame(muxTypeWindow, 0, 77, math.MaxUint32, ""),
		"as large a window as can": muxFrame(muxTypeWindow, 0, 3, math.MaxUint32-muxWindow, ""),
		"unknown flags":            muxFrame(muxTypeWindow, 0xfff0, 3, 0, ""),
		"reset and ended":          muxSignal(muxFIN|muxRST, 5),
	} {
		simnet.Bubble(t, func(t *testing.T) {
			o := newLone(t, simnet.Line{}, quiet, false)
			o.says(controlStream, muxSignal(muxSYN, 3), muxSignal(muxSYN, 5))
			c := o.accept1(t)
			o.says(frame, muxData(muxFIN, 3, "hello"))
			if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
				t.Errorf("%s: write: %d, %v", name, n, err)
			}
			if err := o.Err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			o.close()
		})
	}
}
