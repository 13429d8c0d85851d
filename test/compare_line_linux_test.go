package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inspectLine measures the line itself, before anything runs over it.
func (st *stage) inspectLine(s *scenario) {
	st.t.Helper()
	seen := shownLine{Scenario: st.name}
	control, err := controlOf(st.l.ns(st.near))
	st.l.check(err)
	seen.Control = control
	if s.line != nil {
		trips := st.ping(20)
		seen.PingMs = ms(trips[len(trips)/2])
		seen.Iperf3Mbit = st.iperf3()
	}
	st.report.Lines = append(st.report.Lines, seen)
}

// ping returns how long packets take there and back, the fastest first.
func (st *stage) ping(count int) []time.Duration {
	st.t.Helper()
	var conn *net.UDPConn
	st.l.check(inNamespace(st.l.ns(st.near), func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(farAddress(pingPort)))
		return err
	}))
	defer conn.Close()
	var trips []time.Duration
	packet := make([]byte, 64)
	for i := range count {
		packet[0] = byte(i)
		sent := time.Now()
		conn.SetDeadline(sent.Add(2 * time.Second))
		if _, err := conn.Write(packet); err != nil {
			st.t.Fatalf("ping: %v", err)
		}
		answer := make([]byte, 64)
		if _, err := conn.Read(answer); err != nil || answer[0] != byte(i) {
			continue // lost: the line may be a lossy one
		}
		trips = append(trips, time.Since(sent))
	}
	if len(trips) < count/2 {
		st.t.Fatalf("ping: %d of %d packets came back", len(trips), count)
	}
	slices.Sort(trips)
	return trips
}

// iperf3 returns what that program says of the line in Mbit/s, 0 if it is not installed.
func (st *stage) iperf3() float64 {
	st.t.Helper()
	const port = "5201"
	if _, err := exec.LookPath("iperf3"); err != nil {
		st.report.leaveOut("iperf3", "not installed")
		return 0
	}
	server := st.l.start(st.t, relay, "iperf3", "-s", "-1", "-B", relayIP, "-p", port)
	st.l.waitListening(server, relay, 5201)
	seconds := strconv.Itoa(int(st.how.wanBulk.Seconds()))
	p := st.l.start(st.t, st.near, "iperf3", "-c", relayIP, "-p", port, "-t", seconds, "-O", "2", "-J")
	p.waitWithin(st.how.wanBulk+patience, 0)
	server.waitWithin(patience, 0)
	st.settle()
	rate, err := iperf3Rate([]byte(p.stdout.String()))
	if err != nil {
		st.t.Fatalf("iperf3: %v", err)
	}
	return rate / 1e6
}

// iperf3Rate reads what arrived, in bits a second, from iperf3's JSON.
func iperf3Rate(text []byte) (float64, error) {
	var said struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return 0, fmt.Errorf("read what iperf3 said: %w", err)
	}
	if said.Error != "" || said.End.Received.Rate <= 0 {
		return 0, fmt.Errorf("iperf3 measured nothing: %q", said.Error)
	}
	return said.End.Received.Rate, nil
}

// controls are the congestion controls that the kernel offers.
func controls() string {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	return string(bytes.TrimSpace(text))
}

func hasControl(name string) bool { return slices.Contains(strings.Fields(controls()), name) }

// controlOf returns a namespace's congestion control.
func controlOf(ns string) (name string, err error) {
	err = inNamespace(ns, func() error {
		text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
		name = string(bytes.TrimSpace(text))
		return err
	})
	return name, err
}
