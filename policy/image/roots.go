package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"cloister/internal/fault"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// layersAtOnce bounds what is open at a time: a layer being hashed takes a
// connection, about 1 MiB and some 400 bytes for each of its files.
const layersAtOnce = 4

// Roots returns the layers' dm-verity root hashes, lowest first, each 64
// hexadecimal digits, as the platform computes them: of the layer's tar as the
// registry has it, by hcsshim's tar2ext4. Errors are of kind fault.Refused where
// a layer is not what its digest says or holds what the platform refuses; they
// name the layer.
func (i *Image) Roots(ctx context.Context, cache Cache) ([]string, error) {
	roots := make([]string, len(i.layers))
	first := map[v1.Hash]int{} // the same layer twice, often the empty one, is read once
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(layersAtOnce)
	for n, diff := range i.diffs {
		if _, ok := first[diff]; ok {
			continue
		}
		first[diff] = n
		g.Go(func() (err error) {
			if roots[n], err = i.root(ctx, n, cache); err != nil {
				return fmt.Errorf("layer %d (%s) of image %s: %w", n, diff, i.Reference, explain(err))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for n, diff := range i.diffs {
		roots[n] = roots[first[diff]]
	}
	return roots, nil
}

func (i *Image) root(ctx context.Context, n int, cache Cache) (string, error) {
	if root, ok := cache.get(i.diffs[n]); ok {
		return root, nil
	}
	tar, err := open(i.layers[n])
	if err != nil {
		return "", err
	}
	defer tar.Close()
	root, err := hash(ctxReader{ctx, tar}, i.diffs[n])
	if err != nil {
		return "", err
	}
	return root, cache.put(i.diffs[n], root)
}

// open returns the layer's tar. The library would unpack too, with the
// standard library's gzip at half this one's speed.
func open(l v1.Layer) (io.ReadCloser, error) {
	media, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	if media == types.DockerUncompressedLayer || media == types.OCIUncompressedLayer {
		return l.Compressed() // as it is stored
	}
	packed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	tar, err := gzip.NewReader(bufio.NewReaderSize(packed, chunk))
	if err != nil {
		return nil, errors.Join(fault.Errorf(fault.Refused, "push the image again", "its gzip: %w", err), packed.Close())
	}
	return unpacking{tar, packed}, nil
}

type unpacking struct {
	io.Reader
	io.Closer
}

type ctxReader struct {
	ctx context.Context
	io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// chunk is the size of a read: large beside what handing it on costs.
const chunk = 256 << 10

// hash reads a tar to its last byte: the converter stops at the tar's end mark,
// but the diff id is of everything.
func hash(tar io.Reader, diff v1.Hash) (string, error) {
	sum := sha256.New()
	looked, all := newInspection()
	in := bufio.NewReaderSize(io.TeeReader(tar, io.MultiWriter(sum, all)), chunk)
	root, err := tar2ext4.ConvertAndComputeRootDigest(in)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	all.CloseWithError(err)
	if bad := <-looked; bad != nil {
		return "", bad
	}
	if err != nil {
		return "", fault.Errorf(fault.Refused, "rebuild the layer", "the platform's converter: %w", err)
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != diff.Hex {
		return "", fault.Errorf(fault.Refused, "get the image again", "its content has digest sha256:%s", have)
	}
	return root, nil
}
