package main

import (
	"context"
	"path/filepath"
)

// restic shows a backup of the inputs, kept in Azurite through rclone (its own
// azure backend of this version speaks to the cloud only). It reads whole
// blobs of about 1 MiB, and is here to be known: no bar is set against it.
var restic = system{"restic mount", func(ctx context.Context, l *lab) (*mounted, error) {
	env, err := l.restic()
	if err != nil {
		return nil, err
	}
	dir, err := l.newDir("mount")
	if err != nil {
		return nil, err
	}
	m, err := mountPeer(ctx, dir, env, "restic", "-q", "-r", resticRepository, "mount", "--no-default-permissions", dir)
	if err != nil {
		return nil, err
	}
	source, err := l.source()
	m.root = filepath.Join(dir, "snapshots", "latest", source)
	return m, err
}}

const resticRepository = "rclone:az:rclone/restic"

func (l *lab) fillRestic() ([]string, error) {
	ctx := context.Background()
	source, err := l.source()
	if err != nil {
		return nil, err
	}
	s, err := l.azurite()
	if err != nil {
		return nil, err
	}
	env, err := rcloneRemotes(ctx, s)
	if err != nil {
		return nil, err
	}
	cache, err := l.newDir("restic-cache")
	if err != nil {
		return nil, err
	}
	env = append(env, "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR="+cache)
	// The container: rclone makes it with the first file in it.
	for _, args := range [][]string{{"init"}, {"backup", source}} {
		if err := command(ctx, env, "", "restic", append([]string{"-q", "-r", resticRepository}, args...)...); err != nil {
			return nil, err
		}
	}
	return env, nil
}
