package keyauth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// The bounds of an authorized_keys file.
const (
	maxFile     = 16 << 20 // bytes
	maxLine     = 16 << 10 // bytes, without the line's end
	maxProblems = 100      // problems of lines; those beyond are only counted
)

// look is what can be seen of a file without opening it, and of the directories
// from which it could be replaced: its own and, where the path is a symbolic
// link, the link's.
type look struct {
	file, dir, linkDir fs.FileInfo
	err                error
}

func lookAt(path string) look {
	var l look
	if l.file, l.err = os.Stat(path); l.err != nil {
		return l
	}
	var target string
	if target, l.err = filepath.EvalSymlinks(path); l.err != nil {
		return l
	}
	if l.dir, l.err = os.Stat(filepath.Dir(target)); l.err != nil {
		return l
	}
	l.linkDir, l.err = os.Stat(filepath.Dir(path))
	return l
}

// same tells whether two looks saw the same version of the file.
func (l look) same(o look) bool {
	if l.err != nil || o.err != nil {
		return l.err != nil && o.err != nil && l.err.Error() == o.err.Error()
	}
	return os.SameFile(l.file, o.file) && l.file.ModTime().Equal(o.file.ModTime()) &&
		l.file.Size() == o.file.Size() && l.file.Mode() == o.file.Mode() &&
		l.dir.Mode() == o.dir.Mode() && l.linkDir.Mode() == o.linkDir.Mode()
}

// modTime is when the file was last written, or zero.
func (l look) modTime() time.Time {
	if l.file == nil {
		return time.Time{}
	}
	return l.file.ModTime()
}

// openness tells why the file is not safe to believe: someone else than its
// owner may change it. It is what sshd's StrictModes asks for, but that no
// directory further up is looked at.
func openness(path string, file fs.FileInfo, l look) error {
	// Windows keeps no such modes.
	if runtime.GOOS == "windows" {
		return nil
	}
	const others = 0o022
	if m := file.Mode().Perm(); m&others != 0 {
		return fmt.Errorf("may be written by others (mode %04o): chmod go-w %s", m, path)
	}
	for _, d := range []fs.FileInfo{l.dir, l.linkDir} {
		// In a sticky directory nobody replaces another's file.
		if m := d.Mode(); m.Perm()&others != 0 && m&fs.ModeSticky == 0 {
			return fmt.Errorf("its directory may be written by others (mode %04o): chmod go-w that directory", m.Perm())
		}
	}
	return nil
}

// readTable reads the file at path, which l has seen. It returns old if that is
// the same version.
func readTable(path, account string, l look, old *keyTable) *keyTable {
	text, err := readAuthorizedKeys(path, l)
	if err != nil {
		// The path stands in the problem already.
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("%s: %w", p.Op, p.Err)
		}
		return &keyTable{unread: true, problems: []Problem{{File: path, Text: "authorizes nobody: " + err.Error()}}}
	}
	sum := sha256.Sum256(text)
	if old != nil && !old.unread && old.sum == sum {
		return old
	}
	t := parseTable(path, account, string(text), nil)
	t.sum = sum
	return t
}

// readAuthorizedKeys returns the bytes of the file if it may be believed.
func readAuthorizedKeys(path string, l look) ([]byte, error) {
	switch {
	case errors.Is(l.err, fs.ErrNotExist):
		return nil, errors.New("no such file")
	case l.err != nil:
		return nil, l.err
	case !l.file.Mode().IsRegular():
		// To open a FIFO would wait for its writer.
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The file that was opened counts, should it be another one by now.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := openness(path, info, l); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return text, nil
}
