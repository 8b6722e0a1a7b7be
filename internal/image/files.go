package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"

	"cloister/internal/fault"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// fileList is what Wrap needs to know of an image's files, its layers laid over
// each other.
type fileList struct {
	links         map[string]string // by absolute path: a symlink's target, "" for anything else
	passwd, group []byte
}

// maxAccounts bounds /etc/passwd and /etc/group, in bytes.
const maxAccounts = 1 << 20

func listFiles(img v1.Image) (*fileList, error) {
	r := mutate.Extract(img)
	defer r.Close()
	list := &fileList{links: map[string]string{}}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err == nil {
			err = list.add(header, archive)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (l *fileList) add(header *tar.Header, content io.Reader) (err error) {
	name := path.Clean("/" + header.Name)
	l.links[name] = ""
	switch {
	case header.Typeflag == tar.TypeSymlink:
		l.links[name] = header.Linkname
	case name == "/etc/passwd":
		l.passwd, err = io.ReadAll(io.LimitReader(content, maxAccounts))
	case name == "/etc/group":
		l.group, err = io.ReadAll(io.LimitReader(content, maxAccounts))
	}
	return err
}

// maxLinks is how many symbolic links the kernel follows: path_resolution(7).
const maxLinks = 40

// has reports whether there is something at name, links followed.
func (l *fileList) has(name string) bool {
	rest, at := strings.Split(strings.Trim(path.Clean(name), "/"), "/"), "/"
	for links := 0; len(rest) > 0; {
		word, next := rest[0], path.Join(at, rest[0])
		target, ok := l.links[next]
		switch rest = rest[1:]; {
		case word == "" || word == "." || word == "..":
			at = next
		case !ok:
			return false
		case target == "":
			at = next
		default:
			if links++; links > maxLinks {
				return false
			}
			if path.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
		}
	}
	return true
}

// searchPath is what a container engine sets where the image does not.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// program returns a command's first word as an absolute path: the runtime has no
// search path.
func (l *fileList) program(word string, c v1.Config) (string, error) {
	if path.IsAbs(word) {
		return word, nil
	}
	if strings.Contains(word, "/") {
		return path.Join("/", c.WorkingDir, word), nil
	}
	for _, variable := range append([]string{searchPath}, c.Env...) {
		dirs, ok := strings.CutPrefix(variable, "PATH=")
		if !ok {
			continue
		}
		word = l.search(dirs, word)
	}
	if !path.IsAbs(word) {
		return "", fault.Errorf(fault.Refused, "give the image an entrypoint with an absolute path", "the image's command is %q, which is nowhere on its PATH", word)
	}
	return word, nil
}

func (l *fileList) search(dirs, word string) string {
	base := path.Base(word)
	for dir := range strings.SplitSeq(dirs, ":") {
		if found := path.Join(dir, base); path.IsAbs(found) && l.has(found) {
			return found
		}
	}
	return base
}

// user returns the numbers of what an image calls its user, "name:group" or
// numbers, of which the group may be missing.
func (l *fileList) user(text string) (*User, error) {
	name, group, grouped := strings.Cut(text, ":")
	uid, gid, err := account(l.passwd, name)
	if err == nil && grouped {
		gid, _, err = account(l.group, group)
	}
	switch {
	case text == "" || err == nil && uid == 0:
		return nil, nil
	case err != nil || gid == 0:
		return nil, fault.Errorf(fault.Refused, "give the image a numeric user and group, not root: USER 1000:1000", "the image's user %q is nobody it knows, or in group root", text)
	}
	return &User{UID: uid, GID: gid}, nil
}

// account looks a name or number up in a file like /etc/passwd: passwd(5). A
// number that is not there stands for itself, and as its own group.
func account(table []byte, name string) (id, group uint32, err error) {
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		if f := strings.Split(lines.Text(), ":"); len(f) >= 3 && (f[0] == name || f[2] == name) {
			if len(f) >= 4 {
				group, _ = parseID(f[3]) // a group file has members there
			}
			id, err = parseID(f[2])
			return id, group, err
		}
	}
	id, err = parseID(name)
	return id, id, err
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
