package notice

import (
	"context"
	"testing"
)

// TestRtnetlinkCanBeListenedTo: as an ordinary user, and let go again.
func TestRtnetlinkCanBeListenedTo(t *testing.T) {
	f, err := openNetlink()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		watchNetwork(ctx, func() {})
		close(ended)
	}()
	cancel()
	<-ended
}
