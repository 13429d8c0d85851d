package wire

import (
	"bytes"
	"testing"
)

// BenchmarkData is the largest DATA frame, written and read.
func BenchmarkData(b *testing.B) {
	data := make([]byte, MaxData)
	frame := make([]byte, 0, MaxFrame)
	room := make([]byte, MaxData)
	var r bytes.Reader
	b.SetBytes(MaxData)
	b.ReportAllocs()
	for b.Loop() {
		frame = append(AppendDataHeader(frame[:0], 7, len(data)), data...)
		r.Reset(frame)
		h, err := ReadHeader(&r)
		if err != nil {
			b.Fatal(err)
		}
		_, n, err := ReadDataPrefix(&r, h.Length)
		if err != nil {
			b.Fatal(err)
		}
		if got, err := r.Read(room[:n]); got != n || err != nil {
			b.Fatal(got, err)
		}
	}
}

// BenchmarkAck is the smallest frame of bulk, written and read.
func BenchmarkAck(b *testing.B) {
	var frame []byte
	var r bytes.Reader
	b.ReportAllocs()
	for b.Loop() {
		frame = Append(frame[:0], &Ack{Received: 1 << 40, Limit: 1<<40 + 1<<22})
		r.Reset(frame)
		if _, err := Read(&r); err != nil {
			b.Fatal(err)
		}
	}
}
