package status

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

const (
	// updateTime is how often a page is told how things are.
	updateTime = time.Second
	// updateGap is the least time between two updates, however much happens.
	updateGap = 250 * time.Millisecond
	// takingShare is how much longer than a snapshot takes it is good for: it may
	// cost a processor a twentieth at most, however many links and pages there are.
	takingShare = 20
	// updateWrite is how long a browser may take to receive an update.
	updateWrite = 10 * time.Second
)

// update is one message of a stream. The first has all that is remembered, each
// further one what came since.
type update struct {
	First bool `json:"first,omitempty"`
	// Time is this computer's clock now.
	Time   time.Time `json:"time"`
	Status *Snapshot `json:"status"`
	Totals totals    `json:"totals"`
	Events []Entry   `json:"events,omitempty"`
	// Lost is how many events were not told, since too much has happened.
	Lost  uint64   `json:"events_lost,omitempty"`
	Beats []Second `json:"beats,omitempty"`
}

// stream tells a page what happens until it goes, or the page's end.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	l := p.journal.listen()
	if l == nil {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer l.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // the server's is for requests; without deadlines it works as well
	for first := true; ; first = false {
		u := update{First: first, Time: time.Now()}
		u.Events, u.Lost, u.Beats = l.read()
		message, err := p.message(&u)
		if err != nil {
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(updateWrite))
		if _, err := w.Write(message); err != nil || c.Flush() != nil {
			return
		}
		if !p.pause(r, updateGap, nil) || !p.pause(r, updateTime-updateGap, l.news) {
			return
		}
	}
}

// message is u with the status, as a server-sent event.
func (p *Page) message(u *update) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.status == nil || now.Sub(p.taken) >= max(updateGap, takingShare*p.took) {
		p.status, p.totals = p.take().front()
		p.taken, p.took = now, time.Since(now)
	}
	u.Status, u.Totals = p.status, p.totals
	var b bytes.Buffer
	b.WriteString("data: ")
	if err := json.NewEncoder(&b).Encode(u); err != nil { // one line, whatever a name holds
		return nil, err
	}
	b.WriteString("\n")
	return b.Bytes(), nil
}

// pause waits until there is news, or for so long. It reports whether the stream
// goes on.
func (p *Page) pause(r *http.Request, d time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-r.Context().Done():
		return false
	case <-p.over:
		return false
	}
	return true
}
