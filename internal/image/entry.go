package image

import (
	"fmt"
	"io"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Entry is what the signed index of runtime images says of one image.
type Entry struct {
	Reference string `json:"reference"` // where it is published, with the digest
	Digest    string `json:"digest"`    // of its manifest: "sha256:" and 64 hexadecimal digits
	// Layers are the dm-verity root hashes of its layers, lowest first, 64
	// hexadecimal digits each: what the platform measures.
	Layers []string `json:"layers"`
	SVN    uint32   `json:"svn"`
}

// EntryOf describes an image that is published under a repository's name.
func EntryOf(repository string, img v1.Image) (Entry, error) {
	digest, err := img.Digest()
	if err != nil {
		return Entry{}, err
	}
	layers, err := RootHashes(img)
	return Entry{Reference: repository + "@" + digest.String(), Digest: digest.String(), Layers: layers, SVN: SVN}, err
}

// RootHashes returns the dm-verity root hashes of an image's layers, lowest
// first, as the platform's own tools compute them.
func RootHashes(img v1.Image) ([]string, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	hashes := make([]string, len(layers))
	for i, layer := range layers {
		if hashes[i], err = rootHash(layer); err != nil {
			return nil, fmt.Errorf("measuring layer %d: %w", i, err)
		}
	}
	return hashes, nil
}

func rootHash(layer v1.Layer) (hash string, err error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return "", err
	}
	defer r.Close()
	if hash, err = tar2ext4.ConvertAndComputeRootDigest(r); err != nil {
		return "", err
	}
	// What follows the archive's end is part of the layer's digest, and its
	// reader checks that only at the end.
	_, err = io.Copy(io.Discard, r)
	return hash, err
}
