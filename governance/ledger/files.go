package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

const (
	entriesFile    = "entries.jsonl"
	checkpointFile = "checkpoint"
	keyFile        = "ledger.key"
	publicFile     = "ledger.pub"
	lockFile       = "lock"
)

// batch is how many entries one read returns at most: an entry bundle of C2SP
// tlog-tiles.
const batch = 256

// files reads and writes a ledger's directory and believes nothing of it. Its
// owner calls one method at a time, Checkpoint apart.
type files struct {
	dir string
	// ends[i] is the offset after entry i, for the entries read so far.
	ends []int64
	// before is called before each change of a file, by name. Tests kill the
	// process there.
	before func(step string)
}

// Read returns the ledger in dir for reading: it needs no key, writes nothing and
// verifies nothing. One View reads it at a time.
func Read(dir string) governance.Source { return newFiles(dir) }

func newFiles(dir string) *files { return &files{dir: dir, before: func(string) {}} }

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

// Checkpoint implements governance.Source.
func (f *files) Checkpoint(context.Context) ([]byte, error) {
	raw, err := os.ReadFile(f.path(checkpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Errorf(fault.NotFound, "make a ledger with cloister ledger init", "there is no ledger in %s", f.dir)
	}
	return raw, err
}

// Entries implements governance.Source. It reads from a place it has read
// up to before.
func (f *files) Entries(_ context.Context, from, to int64) ([][]byte, error) {
	if from < 0 || from > int64(len(f.ends)) || to <= from {
		return nil, fault.Errorf(fault.Internal, "", "entries %d to %d of %d read", from, to, len(f.ends))
	}
	file, err := os.Open(f.path(entriesFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(f.end(from), io.SeekStart); err != nil {
		return nil, err
	}
	return f.scan(file, from, min(to, from+batch))
}

// end returns the offset at which entry index begins.
func (f *files) end(index int64) int64 {
	if index == 0 {
		return 0
	}
	return f.ends[index-1]
}

func (f *files) scan(r io.Reader, from, to int64) ([][]byte, error) {
	lines := bufio.NewReaderSize(r, statement.MaxEntry+1)
	var list [][]byte
	for index := from; index < to; index++ {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return nil, fault.Errorf(fault.Refused, "restore the ledger from a backup",
				"%s ends, or runs into a line that is too long, at entry %d of %d", entriesFile, index, to)
		}
		list = append(list, append([]byte(nil), line[:len(line)-1]...))
		if index == int64(len(f.ends)) {
			f.ends = append(f.ends, f.end(index)+int64(len(line)))
		}
	}
	return list, nil
}

// tail returns what follows the entries read so far, up to somewhat more than
// one append.
func (f *files) tail() ([]byte, error) {
	file, err := os.Open(f.path(entriesFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	from := f.end(int64(len(f.ends)))
	return io.ReadAll(io.NewSectionReader(file, from, governance.MaxAppend*(statement.MaxEntry+1)+1))
}

// cut removes what follows the entries read so far and keep bytes more.
func (f *files) cut(keep int) error {
	file, err := os.OpenFile(f.path(entriesFile), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	f.before("cut")
	if err := file.Truncate(f.end(int64(len(f.ends))) + int64(keep)); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// appendLines returns when the entries are durable. After an error nothing of
// them is left, or the next append deals with it.
func (f *files) appendLines(entries [][]byte) error {
	file, err := os.OpenFile(f.path(entriesFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("appending to the log: %w", err)
	}
	f.before("write")
	_, err = file.Write(append(bytes.Join(entries, []byte("\n")), '\n'))
	if err == nil {
		f.before("sync")
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fault.Errorf(fault.Unavailable, "see that the disk has room", "appending to the log: %w", errors.Join(err, f.cut(0)))
	}
	return nil
}

// putCheckpoint returns when the checkpoint is durable: old or new, never half.
func (f *files) putCheckpoint(signed []byte) error {
	temporary := f.path(checkpointFile + ".new")
	f.before("checkpoint")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	if err := writeNew(temporary, signed, 0o644); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	f.before("rename")
	if err := os.Rename(temporary, f.path(checkpointFile)); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	f.before("sync directory")
	return syncDir(f.dir)
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncDir makes a rename durable. Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkPrivate refuses a key that others can read. Windows has no mode bits.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fault.Errorf(fault.NotFound, "", "there is no ledger key %s", path)
	}
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fault.Errorf(fault.Refused, "chmod 600 "+path, "ledger key %s is readable by others (mode %o)", path, info.Mode().Perm())
	}
	return nil
}
