//go:build linux

package mount_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listTree says in a line for each name below root, and for root itself, all
// that a volume keeps of it.
func listTree(t *testing.T, root string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(path)
		name, _ := filepath.Rel(root, path)
		lines = append(lines, fmt.Sprintf("%q %s", name, line))
		return err
	})
	if err != nil {
		t.Fatalf("listing %s: %v", root, err)
	}
	return lines
}

func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	line := fmt.Sprintf("mode %o, owner %d:%d, %d links, mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(", %d bytes, sha256 %x", st.Size, sha256.Sum256(data))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		return line + fmt.Sprintf(", %d bytes, target %q", st.Size, target), nil // the kernel allows links no user attributes
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(", device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	attrs, err := attributes(path)
	return line + attrs, err
}

// attributes lists the user's extended attributes, ascending.
func attributes(path string) (text string, err error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", fmt.Errorf("listxattr %s: %w", path, err)
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	for _, name := range slices.Sorted(slices.Values(names)) {
		if n, err = unix.Lgetxattr(path, name, buf); err != nil {
			return "", fmt.Errorf("getxattr %s %s: %w", path, name, err)
		}
		text += fmt.Sprintf(", %s = %q", name, buf[:n])
	}
	return text, nil
}

// wantLines says which lines are missing and which are there in vain.
func wantLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s: nothing is expected: the test tests nothing", what)
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s: missing %s", what, line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s: not expected %s", what, line)
		}
	}
}

// everyType makes a folder with one of everything a volume can keep. Root only.
func everyType(t *testing.T, root string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(root, name) }
	write := func(name string, data []byte, mode os.FileMode) {
		t.Helper()
		check(os.MkdirAll(filepath.Dir(at(name)), 0o755))
		check(os.WriteFile(at(name), data, mode))
	}
	write("empty", nil, 0o644)
	write("one byte", []byte{42}, 0o444)
	write("page", content(4096, 1), 0o644)
	write("large", content(300_017, 2), 0o644)
	for i := range 20 {
		write(fmt.Sprintf("packed/%02d", i), content(50*i, uint64(100+i)), 0o640)
	}
	write("a/b/c/d/deep", []byte("deep"), 0o644)
	write("names/caf\xe9 \xff\x80", []byte("not UTF-8"), 0o644)
	write("names/"+strings.Repeat("n", 255), []byte("long"), 0o644)
	write("names/new\nline", []byte("line"), 0o644)
	check(os.Mkdir(at("empty directory"), 0o700))
	sparse, err := os.Create(at("sparse"))
	check(err)
	_, err = sparse.WriteAt(content(5000, 3), 3<<20+77)
	check(err)
	check(sparse.Truncate(10 << 20))
	check(sparse.Close())
	check(os.Link(at("page"), at("names/hard link")))
	check(os.Symlink("a/b/c/d/deep", at("link")))
	check(os.Symlink("../\xff/nowhere", at("dangling")))
	check(unix.Mkfifo(at("fifo"), 0o600))
	check(unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	check(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 300))))
	write("attributes", []byte("x"), 0o644)
	check(unix.Setxattr(at("attributes"), "user.one", []byte("1\x002"), 0))
	check(unix.Setxattr(at("attributes"), "user.empty", nil, 0))
	check(unix.Setxattr(at("a"), "user.of a directory", []byte("yes"), 0))
	check(os.Lchown(at("attributes"), 1234, 5678))
	check(os.Lchown(at("link"), 1234, 5678))
	write("setuid", []byte("#!/bin/false\n"), 0o755)
	check(os.Chmod(at("setuid"), 0o755|os.ModeSetuid))
	check(os.Chmod(at("empty directory"), 0o777|os.ModeSticky))
	settle(t, root)
}

// settle gives everything below root a time of its own, that of root last.
func settle(t *testing.T, root string) {
	t.Helper()
	var paths []string
	if err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error { paths = append(paths, path); return err }); err != nil {
		t.Fatal(err)
	}
	for i, path := range slices.Backward(paths) {
		when := unix.Timespec{Sec: 1_500_000_000 + int64(i)*86_400, Nsec: int64(i) * 1_000_003}
		if filepath.Base(path) == "one byte" {
			when = unix.Timespec{Sec: -86_400, Nsec: 1} // before 1970
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(&os.PathError{Op: "utimensat", Path: path, Err: syscall.EIO})
		}
	}
}
