package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age/armor"

	"cloister/fs/format"
	"cloister/internal/fault"
)

func phrase(t testing.TB, s string) *Passphrase {
	t.Helper()
	p, err := NewPassphrase([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func asking(t testing.TB, s string) Ask {
	return func() (*Passphrase, error) { return phrase(t, s), nil }
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	secret := format.NewRootSecret()
	if err := Write(path, secret, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	got, err := Read(path, nil)
	if err != nil || *got != *secret {
		t.Fatalf("another secret came back: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("the directory holds %v, want the key file only", entries)
	}
}

func TestWriteNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"file":     func(p string) error { return os.WriteFile(p, []byte("mine"), 0o644) },
		"dangling": func(p string) error { return os.Symlink("nowhere", p) },
		"dir":      func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		err := Write(path, format.NewRootSecret(), nil)
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "not overwritten") {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
		if err := claim(filepath.Join(dir, "temp"), path); fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: claim says %v, want a conflict", name, err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "file")); string(b) != "mine" {
		t.Errorf("the file now holds %q", b)
	}
}

func TestClaimWithoutHardLinks(t *testing.T) {
	dir := t.TempDir()
	temp, path := filepath.Join(dir, "temp"), filepath.Join(dir, "key")
	if err := writeTemp(temp, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := claim(temp, path); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "whole" {
		t.Errorf("the file holds %q", b)
	}
	if err := claim(temp, filepath.Join(dir, "other")); err == nil {
		t.Error("claiming with nothing to move succeeded")
	}
	if _, err := os.Lstat(filepath.Join(dir, "other")); !os.IsNotExist(err) {
		t.Error("a failed claim left its empty file")
	}
}

func TestWriteIntoNothing(t *testing.T) {
	err := Write(filepath.Join(t.TempDir(), "no", "key"), format.NewRootSecret(), nil)
	if fault.KindOf(err) != fault.NotFound {
		t.Errorf("%v, want not-found", err)
	}
}

func TestPassphrase(t *testing.T) {
	secret := format.NewRootSecret()
	data, err := encode(secret, phrase(t, "correct horse\n"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(magic)) {
		t.Fatal("the file shows its key line")
	}
	got, err := Parse(data, asking(t, "correct horse"))
	if err != nil || *got != *secret {
		t.Fatalf("another secret came back: %v", err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Read(path, asking(t, "wrong"))
	if !errors.Is(err, errPassphrase) || fault.KindOf(err) != fault.Refused || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err = Read(path, nil); fault.KindOf(err) != fault.Usage {
		t.Errorf("no passphrase: %v, want usage", err)
	}
	cause := errors.New("no terminal")
	if _, err = Read(path, func() (*Passphrase, error) { return nil, cause }); !errors.Is(err, cause) {
		t.Errorf("the asker's error is lost: %v", err)
	}
	if _, err := Parse(asCostly(t, data, maxWorkFactor+1), asking(t, "correct horse")); err == nil || !strings.Contains(err.Error(), "work factor") {
		t.Errorf("a file of an unbounded work factor: %v", err)
	}
}

// asCostly changes the work factor that a locked key file of work factor 10
// states, which is read before anything is computed or authenticated.
func asCostly(t *testing.T, data []byte, workFactor int) []byte {
	t.Helper()
	comment, armored, _ := bytes.Cut(data, []byte("\n"))
	age, err := io.ReadAll(armor.NewReader(bytes.NewReader(armored)))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(age, []byte(" 10\n"), fmt.Appendf(nil, " %d\n", workFactor), 1)
	if bytes.Equal(changed, age) {
		t.Fatal("the file does not state its work factor")
	}
	out := bytes.NewBuffer(append(comment, '\n'))
	w := armor.NewWriter(out)
	w.Write(changed)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPassphraseIsOneLine(t *testing.T) {
	for _, bad := range []string{"", "\n", "\r\n", "a\nb", "a\x00"} {
		if _, err := NewPassphrase([]byte(bad)); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v, want usage", bad, err)
		}
	}
	if !phrase(t, "a\r\n").Equal(phrase(t, "a")) {
		t.Error("the line ending is part of the passphrase")
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := format.NewRootSecret()
	data, _ := encode(secret, nil, 0)
	good := string(data)
	flipped := []byte(good)
	flipped[len(plainComment)+len(magic)] ^= 1
	for _, tc := range []struct {
		path string
		kind fault.Kind
		text string
		hint string
	}{
		{filepath.Join(dir, "none"), fault.NotFound, "no such file", "cloister prep keygen"},
		{dir, fault.Refused, "is not a file", "cloister prep keygen"},
		{file("open", good, 0o644), fault.Refused, "mode is 0644", "chmod 600"},
		{file("group", good, 0o640), fault.Refused, "mode is 0640", "chmod 600"},
		{file("writable", good, 0o602), fault.Refused, "mode is 0602", "chmod 600"},
		{file("empty", "", 0o600), fault.Refused, "comment line", "cloister prep keygen"},
		{file("bare", good[len(plainComment):], 0o600), fault.Refused, "comment line", "cloister prep keygen"},
		{file("more", good+"\n", 0o600), fault.Refused, "characters and a new line", "cloister prep keygen"},
		{file("less", good[:len(good)-1], 0o600), fault.Refused, "characters and a new line", "cloister prep keygen"},
		{file("upper", strings.Replace(good, magic, strings.ToUpper(magic), 1), 0o600), fault.Refused, "begin with", "cloister prep keygen"},
		{file("changed", string(flipped), 0o600), fault.Refused, "", "cloister prep keygen"},
		{file("long", good+strings.Repeat("x", maxFile), 0o600), fault.Refused, "too long", ""},
		{file("armor", "# x\n"+armorHeader+"\nAAAA\n", 0o600), fault.Refused, "not a Cloister key file", ""},
	} {
		if runtime.GOOS == "windows" && strings.Contains(tc.text, "mode") {
			continue
		}
		_, err := Read(tc.path, asking(t, "x"))
		if err == nil || fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) ||
			!strings.Contains(strings.Join(fault.Hints(err), " "), tc.hint) {
			t.Errorf("%s: %v (%v, hints %q); want %v with %q", tc.path, err, fault.KindOf(err), fault.Hints(err), tc.kind, tc.text)
		}
		if err != nil && strings.Contains(err.Error(), good[len(plainComment)+len(magic)+8:][:8]) {
			t.Errorf("%s: the error shows the secret: %v", tc.path, err)
		}
	}
}

func TestEveryChangedCharacterIsFound(t *testing.T) {
	data, _ := encode(format.NewRootSecret(), nil, 0)
	for i := len(plainComment); i < len(data); i++ {
		for bit := range 8 {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << bit
			if _, err := Parse(changed, nil); err == nil {
				t.Errorf("bit %d of character %d of the key line changed, and it was read", bit, i-len(plainComment))
			}
		}
	}
}

func TestPassphraseRedacts(t *testing.T) {
	p := phrase(t, "hunter2")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", p)
	out := fmt.Sprintf("%v %+v %#v %s %q %x %d", p, p, p, p, p, p, p) + log.String()
	if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e") {
		t.Errorf("printed: %s", out)
	}
	p.Destroy()
	if !bytes.Equal(p.b, make([]byte, 7)) {
		t.Error("Destroy leaves the passphrase")
	}
}

func FuzzParse(f *testing.F) {
	secret, _ := format.RootSecretFromBytes(bytes.Repeat([]byte{7}, 32))
	plain, _ := encode(secret, nil, 0)
	locked, err := encode(secret, phrase(f, "x"), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(locked)
	f.Add([]byte("# \n" + magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse(data, func() (*Passphrase, error) { return nil, errors.New("none") })
		if err != nil {
			return
		}
		// What is read without a passphrase is what Write would have written.
		_, line, _ := bytes.Cut(data, []byte("\n"))
		if !bytes.Equal(encodeLine(got), line) {
			t.Errorf("%q was read as a key, and is not how it is written", data)
		}
	})
}
