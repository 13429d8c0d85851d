package main

import (
	"fmt"
	"io"
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

// console is stderr as a person sees it. On a terminal it shows what is being waited
// for: in the last line, anew every second, and gone before anything else is written.
type console struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex // guards all below
	drawn int        // columns of the line that is to be wiped off
	still func()     // ends the wait that is shown; nil: there is none
}

// Write wipes off what is being waited for and writes p.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wipe()
	return c.w.Write(p)
}

// wipe needs no control sequence, which not every terminal has. The caller holds mu.
func (c *console) wipe() {
	if c.drawn > 0 {
		fmt.Fprintf(c.w, "\r%*s\r", c.drawn, "")
		c.drawn = 0
	}
}

// wait shows on a terminal what is being waited for, once that has taken a second,
// until done is called or another wait begins.
func (c *console) wait(what string) (done func()) {
	if !c.terminal {
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
func (c *console) draw(what string, after time.Duration) {
	took := fmt.Sprintf(" … %v", after.Round(time.Second))
	line := []rune(printable(what))
	line = append(line[:min(len(line), waitWidth-utf8.RuneCountInString(took))], []rune(took)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	pad := max(0, c.drawn-len(line))
	fmt.Fprintf(c.w, "\r%s%s", string(line), strings.Repeat(" ", pad))
	c.drawn = len(line) + pad
}

// rest ends the wait that is shown, if there is one.
func (c *console) rest() {
	c.mu.Lock()
	done := c.still
	c.still = nil
	c.mu.Unlock()
	if done != nil {
		done()
	}
}
