package test

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"
)

// browser is a headless Chromium in a namespace, with one tab.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // the tab is known by it

	mu   sync.Mutex // guards said
	said []string   // what the console shows as an error or a warning
}

// browse opens a tab in a namespace. It is driven through a pipe, so that the
// namespace's network is the page's alone.
func (l *lab) browse(t *testing.T, r role) *browser {
	t.Helper()
	needTools(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("ip"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1000, 900),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"ip", "netns", "exec", l.ns(r), "chromium"}, cmd.Args[1:]...)
			cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
		}),
	)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, leave := chromedp.NewContext(ctx)
	t.Cleanup(leave)
	b := &browser{t: t, ctx: ctx}
	console := chromedp.Console(ctx)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		for m, err := range console {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.said = append(b.said, m.String())
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		leave()
		<-listened
	})
	return b
}

// do runs actions in the tab.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// evaluated is what an expression is in the page now.
func evaluated[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("browser: %s: %v", expression, err)
	}
	return v
}

// text is what an element shows.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return evaluated[string](b, "document.querySelector('"+selector+"').innerText")
}

// shows waits until an element shows a text, and returns how long that took.
func (b *browser) shows(selector, text string) time.Duration {
	b.t.Helper()
	return b.until(func() bool { return strings.Contains(b.text(selector), text) }, func() string {
		return selector + " shows " + b.text(selector) + ", want " + text
	})
}

// until waits until the page is as wanted, and returns how long that took.
func (b *browser) until(wanted func() bool, otherwise func() string) time.Duration {
	b.t.Helper()
	start := time.Now()
	for !wanted() {
		if time.Since(start) > patience {
			b.t.Fatalf("browser: %s after %s", otherwise(), patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}

// errors returns what the console has shown so far.
func (b *browser) errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.said...)
}

// scheme lets the person prefer "light" or "dark".
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	}))
}

// scripts lets the page run its script, or no longer.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	}))
}
