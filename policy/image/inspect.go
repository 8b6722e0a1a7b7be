package image

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"

	"cloister/internal/fault"
)

const rebuildHint = "rebuild the layer with an entry for every directory, before what is in it, and each path once; see `cloister app publish`"

// newInspection looks through the tar written to the pipe for what the platform
// unpacks otherwise than this machine, or not at all. The answer comes once, a
// refusal or nil; a tar that cannot be read is left to the converter.
func newInspection() (<-chan error, *io.PipeWriter) {
	r, w := io.Pipe()
	answer := make(chan error, 1)
	go func() {
		err := inspect(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, r) // the writer must not be left hanging
		}
		r.CloseWithError(err)
		answer <- err
	}()
	return answer, w
}

func inspect(r io.Reader) error {
	seen := paths{"/": tar.TypeDir}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err != nil {
			return nil
		}
		if err := seen.add(h); err != nil {
			return err
		}
	}
}

// paths are the types of what a layer has held so far, by clean absolute path.
type paths map[string]byte

func (p paths) add(h *tar.Header) error {
	at := path.Clean("/" + h.Name)
	if strings.Contains("/"+h.Name+"/", "/../") {
		return refuse(h.Name, errors.New("leads upwards"))
	}
	if at == "/" {
		return nil
	}
	if err := p.parents(at); err != nil {
		return refuse(h.Name, err)
	}
	if _, twice := p[at]; twice {
		return refuse(h.Name, errors.New("is in the layer twice"))
	}
	p[at] = h.Typeflag
	return nil
}

func (p paths) parents(at string) error {
	for dir := path.Dir(at); dir != "/"; dir = path.Dir(dir) {
		switch kind, ok := p[dir]; {
		case !ok:
			return errors.New("its parent directory " + dir + " is missing before it, and would get permissions and times that are not in the image")
		case kind == tar.TypeSymlink:
			return errors.New("its parent " + dir + " is a symbolic link")
		case kind != tar.TypeDir:
			return errors.New("its parent " + dir + " is not a directory")
		}
	}
	return nil
}

func refuse(name string, err error) error {
	return fault.Errorf(fault.Refused, rebuildHint, "path %.200q: %w", name, err)
}
