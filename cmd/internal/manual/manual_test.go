package manual

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func program() *cobra.Command {
	root := &cobra.Command{
		Use: "prog", Short: "Do things", Long: "Does things:\n\n  prog 'a' \\n\n  .TH is no macro here\n\nand others.",
		Run: func(*cobra.Command, []string) {},
	}
	root.PersistentFlags().StringP("config", "c", "", "configuration `FILE`")
	sub := &cobra.Command{Use: "serve HOST", Short: "Serve", Run: func(*cobra.Command, []string) {}}
	sub.Flags().Bool("json", false, "print JSON")
	hidden := &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}}
	root.AddCommand(sub, hidden)
	return root
}

func page(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := Write(&b, program(), Page{
		Section: 1, Version: "1.2.3", Date: "2026-11-22", Synopsis: []string{"[flags] HOST", "serve"},
		Chapters: []Chapter{{Title: "EXIT STATUS", Text: ".first\n'second", Items: []Item{{"0", "done"}, {"1", "failed\n\nbadly"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAPageHasEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	text := page(t)
	for _, want := range []string{
		`.TH "PROG" 1 "2026-11-22" "prog 1.2.3"`, "\nprog \\- do things\n", `\fB\-c\fR, \fB\-\-config\fR \fIFILE\fR`,
		`\fBserve HOST\fR`, `\fB\-\-json\fR`, `.SH "EXIT STATUS"`, "\n\\&.first\n\\&'second\n", "\n.RS 4\n.nf\nprog 'a' \\en\n\\&.TH is",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Errorf("a hidden command is on the page:\n%s", text)
	}
}

// groff warns of what it does not understand.
func TestGroffHasNoComplaints(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "groff", "-man", "-Tutf8", "-ww", "-b")
	cmd.Stdin = strings.NewReader(page(t))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, &complaints)
	}
	for _, want := range []string{"prog 'a' \\n", ".TH is no macro here", "badly"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the page as it is read lacks %q:\n%s", want, out)
		}
	}
}
