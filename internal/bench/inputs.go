package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Names in the folder of the inputs.
const (
	largeFolder = "large"
	largeFile   = "large/large"
	smallFolder = "small"
)

func allInputs(l *lab) (string, error)  { return l.source() }
func manyInputs(l *lab) (string, error) { return l.manyTree() }

func largeInput(l *lab) (string, error) {
	source, err := l.source()
	return filepath.Join(source, largeFolder), err
}

// makeSource writes one file of l.size bytes, and l.files files of 0.5 to 8 KiB
// in folders of 100. The bytes are random, so nothing compresses, and the same
// in every run.
func (l *lab) makeSource() (string, error) {
	dir := filepath.Join(l.dir, "source")
	random := rand.NewChaCha8([32]byte{1})
	if err := os.MkdirAll(filepath.Join(dir, largeFolder), 0o755); err != nil {
		return "", err
	}
	large, err := os.Create(filepath.Join(dir, largeFile))
	if err != nil {
		return "", err
	}
	defer large.Close()
	if _, err := io.CopyN(large, random, l.size); err != nil {
		return "", err
	}
	sizes := rand.New(random)
	for i := range l.files {
		if err := writeInFolders(filepath.Join(dir, smallFolder), i, 100, randomBytes(random, sizes)); err != nil {
			return "", err
		}
	}
	return dir, large.Close()
}

func randomBytes(random *rand.ChaCha8, sizes *rand.Rand) []byte {
	b := make([]byte, 512+sizes.IntN(8<<10-512))
	random.Read(b)
	return b
}

// writeInFolders writes file number i of a tree with so many files a folder.
func writeInFolders(root string, i, perFolder int, data []byte) error {
	folder := filepath.Join(root, fmt.Sprintf("%05d", i/perFolder))
	if i%perFolder == 0 {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, fmt.Sprintf("file-%07d", i)), data, 0o644)
}

// repositoryFiles is how many files the repository has that is cloned.
const repositoryFiles = 2000

func (l *lab) makeRepository() (string, error) {
	ctx := context.Background()
	dir, err := l.newDir("repository")
	if err != nil {
		return "", err
	}
	random := rand.NewChaCha8([32]byte{2})
	sizes := rand.New(random)
	for i := range repositoryFiles {
		if err := writeInFolders(dir, i, 50, randomBytes(random, sizes)); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "files"}} {
		if err := command(ctx, nil, "", "git", append([]string{"-C", dir}, args...)...); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// makeArchive makes a tar archive of the small files.
func (l *lab) makeArchive() (string, error) {
	source, err := l.source()
	if err != nil {
		return "", err
	}
	archive := filepath.Join(l.dir, "small.tar")
	return archive, command(context.Background(), nil, "", "tar", "-cf", archive, "-C", source, smallFolder)
}
