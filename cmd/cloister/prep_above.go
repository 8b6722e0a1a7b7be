package main

import (
	"errors"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"cloister/fs/store"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// above is a place above a volume, and where the volume lies from there.
type above struct {
	*store.Store
	place string
}

// openAbove opens every place above a volume, the nearest first; the caller
// closes them.
func openAbove(c *urfave.Context, volume string) (list []above, err error) {
	for place := ""; ; {
		var last string
		if volume, last, err = parent(volume); err != nil || last == "" {
			return list, err
		}
		place = path.Join(last, place)
		s, err := openStore(c, volume, false)
		if fault.KindOf(err) == fault.Usage && err != nil {
			return list, nil // above a container there are no objects
		}
		if err != nil {
			for _, a := range list {
				err = errors.Join(err, a.Close())
			}
			return nil, err
		}
		list = append(list, above{s, place})
	}
}

// parent returns what a directory or blob URL lies in, and its name there; ""
// where it lies in nothing.
func parent(volume string) (up, last string, err error) {
	if !strings.Contains(volume, "://") {
		if volume, err = filepath.Abs(volume); err == nil {
			volume, err = filepath.EvalSymlinks(volume)
		}
		if up = filepath.Dir(volume); up == volume {
			return up, "", err
		}
		return up, filepath.Base(volume), err
	}
	u, err := url.Parse(volume)
	if err != nil {
		return "", "", fault.Errorf(fault.Usage, "", "volume %s is not a URL", shown(volume))
	}
	clean := path.Clean("/" + u.Path)
	if clean == "/" {
		return "", "", nil
	}
	u.Path = path.Dir(clean)
	return u.String(), path.Base(clean), nil
}
