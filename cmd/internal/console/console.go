// Package console shows a person what a command waits for.
package console

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// waitTick is how long somebody waits before being told what for, and how often
	// that is told anew.
	waitTick = time.Second
	// waitWidth is the most of a line that is taken, in columns: what wraps around
	// could not be wiped off.
	waitWidth = 72
)

// Console is stderr as a person sees it. On a terminal it shows what is being waited
// for: in the last line, anew every second, and gone before anything else is written.
type Console struct {
	// W is what is written to.
	W io.Writer
	// Terminal is whether waits are shown there. It changes only before the first.
	Terminal bool

	mu    sync.Mutex // guards all below
	drawn int        // columns of the line that is to be wiped off
	still func()     // ends the wait that is shown; nil: there is none
}

// New is the console of a file.
func New(f *os.File) *Console { return &Console{W: f, Terminal: IsTerminal(f)} }

// Write wipes off what is being waited for and writes p.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wipe()
	return c.W.Write(p)
}

// wipe needs no control sequence, which not every terminal has. The caller holds mu.
func (c *Console) wipe() {
	if c.drawn > 0 {
		fmt.Fprintf(c.W, "\r%*s\r", c.drawn, "")
		c.drawn = 0
	}
}

// Wait shows on a terminal what is being waited for, once that has taken a second,
// until done is called or another wait begins.
func (c *Console) Wait(what string) (done func()) {
	if !c.Terminal {
		return func() {}
	}
	ended := make(chan struct{}) // closed by done
	var drawing sync.WaitGroup
	done = sync.OnceFunc(func() {
		close(ended)
		drawing.Wait()
	})
	c.mu.Lock()
	before := c.still
	c.still = done
	c.mu.Unlock()
	if before != nil {
		before()
	}
	drawing.Go(func() {
		began := time.Now()
		tick := time.NewTicker(waitTick)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				c.mu.Lock()
				c.wipe()
				c.mu.Unlock()
				return
			case <-tick.C:
				c.draw(what, time.Since(began))
			}
		}
	})
	return done
}

// draw writes the line anew.
func (c *Console) draw(what string, after time.Duration) {
	took := fmt.Sprintf(" … %v", after.Round(time.Second))
	line := []rune(Printable(what))
	line = append(line[:min(len(line), waitWidth-utf8.RuneCountInString(took))], []rune(took)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	pad := max(0, c.drawn-len(line))
	fmt.Fprintf(c.W, "\r%s%s", string(line), strings.Repeat(" ", pad))
	c.drawn = len(line) + pad
}

// Rest ends the wait that is shown, if there is one.
func (c *Console) Rest() {
	c.mu.Lock()
	done := c.still
	c.still = nil
	c.mu.Unlock()
	if done != nil {
		done()
	}
}

// Printable is s without what could harm a terminal.
func Printable(s string) string {
	return strings.Trim(strconv.QuoteToGraphic(s), `"`)
}
