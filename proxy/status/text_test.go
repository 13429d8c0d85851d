package status

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

// at is the moment of every snapshot here.
var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func full() *Snapshot {
	return &Snapshot{
		Schema: Schema, Role: "relay", Running: true, Version: "1.2.3", PID: 4711, Time: at, Uptime: Seconds(3*time.Hour + 12*time.Minute),
		Links: []Link{
			{Address: "192.0.2.7:50001", Agent: "sshka-proxy/1.2.3", Key: "SHA256:younger", Age: Seconds(time.Minute), Interval: Seconds(time.Minute)},
			{
				Address: "192.0.2.8:50002", Agent: "sshka-proxy/1.2.3", Key: "SHA256:older", Age: Seconds(50 * time.Hour), RTT: Seconds(12345 * time.Microsecond),
				Beats: 9, LastBeat: Seconds(4 * time.Second), LastByte: Seconds(3 * time.Second), Missed: 7, Row: 2,
			},
		},
		LastLost: &Lost{Ago: Seconds(3 * time.Minute), Reason: "missed_beats", Address: "192.0.2.9:50003", Key: "SHA256:gone"},
		Sessions: []Session{
			{
				ID: "0f3c12ab45de0000000000000000000a", Target: "db.internal:22", Key: "SHA256:older", Age: Seconds(time.Hour), State: Detached,
				Since: Seconds(90 * time.Second), ToTarget: 1536, ToClient: 5 << 30, Replay: 1023, Pauses: 2,
			},
		},
	}
}

func written(t *testing.T, s *Snapshot) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheTextOfARelay(t *testing.T) {
	const want = `sshka-relay 1.2.3, pid 4711, up 3h12m

LINK             KEY             AGE   RTT   LAST BEAT  LAST BYTE  MISSED          INTERVAL  PEER
192.0.2.8:50002  SHA256:older    2d2h  12ms  4s ago     3s ago     7 (2 in a row)  off       sshka-proxy/1.2.3
192.0.2.7:50001  SHA256:younger  1m0s  -     -          0ms ago    0               1m0s      sshka-proxy/1.2.3
last link lost 3m0s ago: missed_beats, 192.0.2.9:50003

SESSION       TARGET          KEY           STATE           AGE   TO TARGET  TO CLIENT  REPLAY  PAUSES
0f3c12ab45de  db.internal:22  SHA256:older  detached 1m30s  1h0m  1.5 KiB    5.0 GiB    1023 B  2
`
	if got := written(t, full()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheTextOfAProxyWithoutALink(t *testing.T) {
	s := &Snapshot{
		Role: "proxy", Running: true, Version: "1.2.3", PID: 1, Time: at, Relay: "relay.test:7422", Dialling: true,
		DialError: &Event{Ago: Seconds(2 * time.Second), Text: "reach relay relay.test:7422: connection refused"},
		LastLost:  &Lost{Ago: Seconds(time.Minute), Reason: "reset", Error: "read: connection reset by peer", Address: "192.0.2.1:7422"},
		LastError: &LastError{Time: at.Add(-3 * time.Minute), Target: "db:22", Text: "no such host db"},
	}
	const want = `sshka-proxy 1.2.3, pid 1, up 0ms, relay relay.test:7422

no link, the relay is being dialled; last error, 2s ago: reach relay relay.test:7422: connection refused
last link lost 1m0s ago: reset (read: connection reset by peer), 192.0.2.1:7422

no sessions

last ProxyCommand error, 3m0s ago: db:22: no such host db
`
	if got := written(t, s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.Running = false
	if got := written(t, s); got != "last ProxyCommand error, 3m0s ago: db:22: no such host db\n" {
		t.Errorf("without a process: %q", got)
	}
}

// TestWhatPeersSayHarmsNoTerminal: a target is what the other end wrote.
func TestWhatPeersSayHarmsNoTerminal(t *testing.T) {
	s := full()
	const evil = "\x1b]0;title\a\n\r\tx\u202e"
	s.Relay, s.DialError, s.LastError = evil, &Event{Text: evil}, &LastError{Target: evil, Text: evil}
	s.Links[0].Agent, s.Links[0].Address, s.Sessions[0].Target, s.LastLost.Error = evil, evil, evil, evil
	before := strings.Count(written(t, full()), "\n") + 2 // a blank line, and the last error
	got := written(t, s)
	if strings.ContainsAny(got, "\x1b\a\r\t\u202e") || strings.Count(got, "\n") != before {
		t.Errorf("%q", got)
	}
	s.Links = nil
	if got := written(t, s); strings.ContainsAny(got, "\x1b\a\r\t\u202e") {
		t.Errorf("%q", got)
	}
}

// TestJSONHarmsNoTerminal: and means what it meant.
func TestJSONHarmsNoTerminal(t *testing.T) {
	for _, evil := range []string{
		"\x1b]0;title\a\n\r\tx", "\u009b2J", "\x7f", "a\u202ebc", "\u2028", "\u200b", "\U000e0001tag", "\U0010ffff", "bücher 🙂 \" \\ <a>",
	} {
		s := full()
		s.Relay, s.Links[0].Agent, s.LastError = evil, evil, &LastError{Target: evil, Text: evil}
		var b bytes.Buffer
		if err := s.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }); i >= 0 {
			t.Errorf("%q: %q", evil, b.String()[i:min(i+10, b.Len())])
		}
		var back Snapshot
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Relay != evil || back.LastError.Text != evil {
			t.Errorf("%q came back as %q, %v", evil, back.Relay, err)
		}
	}
}

func TestJSONComesBackAsItWent(t *testing.T) {
	s := full()
	s.Links[0], s.Links[1] = s.Links[1], s.Links[0] // as they are sorted
	var b bytes.Buffer
	if err := s.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Snapshot
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, s) {
		t.Errorf("%+v\nwant\n%+v", &back, s)
	}
	for _, want := range []string{
		`"schema": 1,`, `"role": "relay"`, `"uptime_seconds": 11520,`, `"rtt_seconds": 0.012345,`, `"last_beat_seconds_ago": 4,`,
		`"missed": 7,`, `"missed_in_a_row": 2,`, `"state": "detached"`, `"state_for_seconds": 90,`, `"reason": "missed_beats"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, &b)
		}
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	var b bytes.Buffer
	if err := new(Snapshot).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"links": []`) || !strings.Contains(b.String(), `"sessions": []`) {
		t.Error(b.String())
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 0: "0ms", 999 * time.Millisecond: "999ms", time.Second: "1s", 59 * time.Second: "59s",
		time.Minute: "1m0s", 59*time.Minute + 59*time.Second: "59m59s", time.Hour: "1h0m", 24 * time.Hour: "1d0h", 49 * time.Hour: "2d1h",
	} {
		if got := span(Seconds(d)); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		123456: "120µs", 1234567: "1.23ms", 12345678: "12ms", 1234567890: "1.23s",
	} {
		if got := trip(Seconds(d)); got != want {
			t.Errorf("a trip of %v is %s, want %s", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 1<<64 - 1: "16.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
