// Package image makes container images without a container engine: the
// project's own, from scratch, and a customer's with the runtime in front.
//
// Life of an image: Scratch puts a program, named once and for all times and
// owners the same, into one layer and one layer into an image, so that the same
// program gives the same digest on every machine; SBOM says what the program
// was built from, out of the program itself; WriteLayout writes images and what
// is attached to them as an OCI layout, which every registry tool reads.
// EntryOf makes what the signed index of runtime images says of one, measured by
// policy/image. Wrap takes an application's image that was opened there and
// appends the runtime's layer as it is, so that whoever knows the index finds the
// runtime in there.
//
// Sources: the OCI image and distribution specifications 1.1.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// SVN is the security version number of the images of this source. It is
// raised by one when a released image has a hole that whoever holds keys must
// be able to refuse; never lowered.
const SVN = 1

// MaxSize is the most that a runtime image may have, in bytes, compressed or
// not: it is pulled at every start of a clean room.
const MaxSize = 40 << 20

// platform is the one that the images are for: SEV-SNP is AMD's.
var platform = v1.Platform{OS: "linux", Architecture: "amd64"}

// created is the time in every layer and image: the build's own would make each
// build another image.
var created = time.Unix(0, 0).UTC()

// File is a program in a layer.
type File struct {
	Path string // absolute
	Data []byte
}

// Users of an image's process.
const (
	Root   = "0:0"         // the runtime's: who mounts must be
	Nobody = "65534:65534" // who an application runs as that nobody gave a user
)

// Scratch returns an image with nothing in it but a program, its entrypoint, which
// runs as user, and the programs that it starts.
func Scratch(user string, program File, others ...File) (v1.Image, error) {
	layer, err := Layer(append([]File{program}, others...)...)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Created: v1.Time{Time: created}, OS: platform.OS, Architecture: platform.Architecture,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{program.Path}, User: user, WorkingDir: "/"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: history(program.Path)})
}

func history(path string) v1.History {
	return v1.History{Created: v1.Time{Time: created}, CreatedBy: "cloister: " + path}
}

// Layer returns a layer of programs that anybody may run and nobody may write.
func Layer(programs ...File) (v1.Layer, error) {
	archive, err := archive(programs)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	// The level is part of the digest: what a layer compresses to is Go's, and Go's
	// version is pinned in go.mod.
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
}

func archive(programs []File) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{"/": true}
	for _, p := range programs {
		if err := parents(w, p.Path, made); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", p.Path, err)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(p.Path, "/"), Mode: 0o555, Size: int64(len(p.Data)), ModTime: created, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", p.Path, err)
		}
		if _, err := w.Write(p.Data); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", p.Path, err)
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// parents makes the directories above a file, the uppermost first: a platform
// makes those that a layer does not have as it likes.
func parents(w *tar.Writer, file string, made map[string]bool) error {
	dir := path.Dir(file)
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := parents(w, dir, made); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755, ModTime: created, Format: tar.FormatUSTAR})
}
