// Package manual writes a program's manual page, for man(1), from its cobra
// commands and from what they cannot know: files, environment, exit status.
package manual

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is one program's manual page.
type Page struct {
	// Section is the page's section: 1 for everybody's programs, 8 for administrators'.
	Section int
	// Version and Date stand at its foot. Both may be empty.
	Version, Date string
	// Synopsis are the ways to call the program, one a line.
	Synopsis []string
	// Chapters follow the commands.
	Chapters []Chapter
}

// Chapter is a part of a page with a heading.
type Chapter struct {
	// Title is in capitals, as in EXIT STATUS.
	Title string
	// Text are paragraphs with an empty line between them. Lines that begin with two
	// spaces are shown as they are.
	Text string
	// Items follow the text.
	Items []Item
}

// Item is one of a list: a term, and what it means.
type Item struct{ Term, Text string }

// Write writes the page of the program whose root command this is.
func Write(w io.Writer, root *cobra.Command, p Page) error {
	root.InitDefaultHelpFlag()
	b := &roff{}
	fmt.Fprintf(b, ".TH %s %d %s %s\n", strings.ToUpper(quote(root.Name())), p.Section, quote(p.Date), quote(strings.TrimSpace(root.Name()+" "+p.Version)))
	// No hyphens at the ends of lines: what is copied from a page has to work. Left
	// aligned, since commands are long words.
	b.WriteString(".nh\n.ad l\n")
	b.heading("NAME")
	b.line(root.Name() + ` \- ` + escape(lowerFirst(root.Short)))
	b.heading("SYNOPSIS")
	for i, s := range p.Synopsis {
		if i > 0 {
			b.WriteString(".br\n")
		}
		b.line(`\fB` + escape(root.Name()) + `\fR ` + escape(s))
	}
	b.heading("DESCRIPTION")
	b.text(describe(root))
	b.heading("OPTIONS")
	b.flags(root.PersistentFlags(), root.Flags())
	b.heading("COMMANDS")
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			b.item(`\fB`+escape(c.Use)+`\fR`, describe(c))
			b.WriteString(".RS\n")
			b.flags(c.LocalNonPersistentFlags())
			b.WriteString(".RE\n")
		}
	}
	for _, c := range p.Chapters {
		b.heading(c.Title)
		b.text(c.Text)
		for _, i := range c.Items {
			b.item(`\fB`+escape(i.Term)+`\fR`, i.Text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Command is the hidden command that writes the page, for those who build packages.
// Its flag is the date at the foot.
func Command(page func() Page) *cobra.Command {
	var date string
	c := &cobra.Command{
		Use: "manual", Short: "Write the manual page to stdout", Hidden: true, Args: cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := page()
			p.Date = date
			return Write(cmd.OutOrStdout(), cmd.Root(), p)
		},
	}
	c.Flags().StringVar(&date, "date", "", "the `DATE` at its foot")
	return c
}

// describe is what a command says of itself, as sentences.
func describe(c *cobra.Command) string {
	text := strings.TrimSpace(c.Long)
	if text == "" {
		return c.Short + "."
	}
	if c.HasParent() {
		text = c.Short + ".\n\n" + text
	}
	return text
}

// lowerFirst is s as it stands after a dash.
func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// roff is the page as groff and mandoc read it: the macros of man(7).
type roff struct{ strings.Builder }

func (b *roff) heading(title string) { b.WriteString(".SH " + quote(title) + "\n") }

// line writes text that is escaped already.
func (b *roff) line(text string) {
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text // else it is a macro
	}
	b.WriteString(text + "\n")
}

// text writes paragraphs.
func (b *roff) text(text string) {
	text = strings.Trim(text, "\n")
	if text == "" {
		return
	}
	for i, p := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.lines(p)
	}
}

// lines writes the lines of a paragraph.
func (b *roff) lines(paragraph string) {
	literal := false
	for l := range strings.SplitSeq(paragraph, "\n") {
		shown, is := strings.CutPrefix(l, "  ")
		if is != literal {
			b.WriteString(map[bool]string{true: ".RS 4\n.nf\n", false: ".fi\n.RE\n"}[is])
			literal = is
		}
		b.line(escape(shown))
	}
	if literal {
		b.WriteString(".fi\n.RE\n")
	}
}

// item writes a term, escaped already, and what it means.
func (b *roff) item(term, text string) {
	b.WriteString(".TP\n")
	b.line(term)
	for i, p := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".IP\n")
		}
		b.lines(p)
	}
}

// flags writes what the sets of flags have, each once.
func (b *roff) flags(sets ...*pflag.FlagSet) {
	seen := map[string]bool{}
	for _, set := range sets {
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || seen[f.Name] || f.Name == "help" && len(sets) == 1 {
				return
			}
			seen[f.Name] = true
			value, usage := pflag.UnquoteUsage(f)
			term := `\fB` + escape("--"+f.Name) + `\fR`
			if f.Shorthand != "" {
				term = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + term
			}
			if value != "" {
				term += ` \fI` + escape(value) + `\fR`
			}
			b.item(term, usage)
		})
	}
}

// escape makes text safe for roff. A hyphen that is typed is not one that is set.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "—", `\(em`).Replace(s)
}

// quote makes an argument of a macro.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\(dq`) + `"` }
