// Package simnet is a network for tests: lines with a rate, a delay and bounded
// socket buffers, peers that freeze, cuts, black holes and NATs that forget.
//
// It is written for virtual time. In a Bubble a line of 64 kbit/s carries an
// hour of bulk in a second, and every timeout is exact:
//
//	simnet.Bubble(t, func(t *testing.T) {
//		a, b := simnet.Pipe(simnet.Line{Rate: 8000, Delay: 20 * time.Millisecond})
//		...
//	})
//
// A Conn behaves as a TCP connection does towards its application: writes are
// buffered, a full path blocks them, Close sends what is left and then the end,
// a reset is ECONNRESET.
package simnet
