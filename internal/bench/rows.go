package main

import (
	"context"
	"errors"
	"os"
)

// The bars are those the project has set itself; each row says in its name what
// is timed. Where the unit is one of time or memory, less is better.

var plainFile = folder("plain file on tmpfs", allInputs)

// inputRows is reading an input volume.
func inputRows() []row {
	directory := cloister(inDirectory(sourceVolume))
	blobs := cloister(inAzurite(sourceBlobVolume, near))
	distant := cloister(inAzurite(sourceBlobVolume, far))
	return []row{
		{"cold sequential read, directory", "MiB/s", on(directory, readLarge), []reference{{on(gocryptfs, readLarge), atLeast(2)}}},
		{"warm sequential read", "MiB/s", on(directory, readAgain), []reference{{on(plainFile, readAgain), atLeast(0.9)}}},
		{"cold sequential read, Azurite", "MiB/s", on(blobs, readLarge), []reference{
			{downloadBuffer("azblob DownloadBuffer", plainBlob, near, 0, mibPerSecond), atLeast(0.5)},
			{on(rclone, readLarge), atLeast(3)},
			{on(restic, readLarge), shown}}},
		{"cold sequential read, 10 ms and 10 MiB/s away", "MiB/s", on(distant, readLarge), []reference{
			{downloadBuffer("DownloadBuffer, 16 ways", plainBlob, far, 16, mibPerSecond), atLeast(0.9)}}},
		{"1 MiB every 8 MiB, Azurite", "MiB/s", on(blobs, readStrided), []reference{{on(rclone, readStrided), shown}}},
		{"random 4 KiB read, latency, Azurite", "µs", on(blobs, randomLatency), []reference{{side{"bare 64 KiB GET", bareGet}, atMost(1.3)}}},
		{"random 4 KiB reads, Azurite", "/s", on(blobs, readRandom(blobReads)), []reference{
			{on(rclone, readRandom(slowReads)), atLeast(5)},
			{on(rcloneRandom, readRandom(blobReads)), shown}}},
		{"random 4 KiB reads, directory", "/s", on(directory, readRandom(localReads)), []reference{{on(gocryptfs, readRandom(localReads)), atLeast(1)}}},
		{"tar of small files, cold, Azurite", "files/s", on(blobs, tarSmall), []reference{
			{on(rclone, tarSmall), atLeast(15)},
			{on(gocryptfs, tarSmall), atLeast(1)},
			{on(restic, tarSmall), shown}}},
		{"memory of 16 readers at --memory 256MiB", "MiB", on(cloister(inAzurite(sourceBlobVolume, near), "--memory", "256MiB"), peakOfReaders),
			[]reference{{bar: within(384, "MiB")}}},
	}
}

// scaleRows is trees of many files.
func scaleRows() []row {
	blobs := inAzurite(sourceBlobVolume, near)
	many := cloister(inDirectory(manyVolume))
	return []row{
		{"find of small files, cold, Azurite", "files/s", on(cloister(blobs), findSmall), []reference{
			{on(rclone, findSmall), atLeast(20)},
			{on(restic, findSmall), shown}}},
		{"mount and find of small files, Azurite", "s", withMount(cloister(blobs), findSmall), []reference{
			{withMount(rclone, findSmall), shown},
			{withMount(restic, findSmall), shown}}},
		{"find -size +0 of many files, cold", "files/s", on(many, findMany), []reference{{on(ext4, findMany), atLeast(0.8)}}},
		{"many files: open to first entry, directory", "s", withMount(many, firstEntry), []reference{{bar: alone}}},
		{"many files: open to first entry, Azurite", "s", withMount(cloister(inAzurite(manyBlobVolume, near)), firstEntry), []reference{
			{downloadBuffer("download of the manifest", manifestBlob, near, 0, justSeconds), beyond(1, "s")}}},
		{"memory after that find, for each file", "bytes", on(many, residentAfterFind(manyFiles)), []reference{
			{on(cloister(inDirectory(emptyVolume)), residentAfterFind(noFiles)), beyond(150, "bytes")}}},
	}
}

// withMount times mounting and the work, in seconds.
func withMount(s system, w work) side {
	return side{s.name, func(ctx context.Context, l *lab) (seconds float64, err error) {
		// What mount needs of the lab is made before it is timed.
		m, err := s.mount(ctx, l)
		if err != nil {
			return 0, err
		}
		if err := m.finish(); err != nil {
			return 0, err
		}
		seconds, err = timed(func() error {
			if m, err = s.mount(ctx, l); err != nil {
				return err
			}
			_, err := w(ctx, l, m)
			return err
		})
		return seconds, errors.Join(err, m.finish())
	}}
}

// firstEntry reads one name of the root.
func firstEntry(_ context.Context, _ *lab, m *mounted) (float64, error) {
	f, err := os.Open(m.root)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return 0, err
}

// sealingRows is making a volume of a folder.
func sealingRows() []row {
	return []row{
		{"encrypt all inputs, directory", "s", encrypt(allInputs, newDirectory, justSeconds), []reference{
			{on(gocryptfsNew, copySource), atMost(0.5)}}},
		{"encrypt and upload the large file, Azurite", "MiB/s", encrypt(largeInput, newInAzurite, mibPerSecond), []reference{{uploadStream, atLeast(0.9)}}},
		{"encrypt many files, directory", "s", encrypt(manyInputs, newDirectory, justSeconds), []reference{{bar: alone}}},
	}
}

// outputRows is writing to an output volume.
func outputRows() []row {
	directory, blobs := cloisterOutput(newDirectory), cloisterOutput(newInAzurite)
	return []row{
		{"sequential write and fsync, directory", "MiB/s", on(directory, writeLarge), []reference{{on(gocryptfsNew, writeLarge), atLeast(2)}}},
		{"sequential write and fsync, Azurite", "MiB/s", on(blobs, writeLarge), []reference{{uploadStream, atLeast(0.9)}}},
		{"small files until all are in Azurite", "files/s", on(blobs, createSmall), []reference{{on(rcloneNew, createSmall), atLeast(5)}}},
		{"random 4 KiB writes and one fsync, directory", "/s", on(directory, writeRandom), []reference{{on(gocryptfsNew, writeRandom), atLeast(1)}}},
		// Twice the time is half the speed.
		{"git clone of 2,000 files, Azurite", "s", on(blobs, cloneRepository), []reference{{on(gocryptfsNew, cloneRepository), atMost(2)}}},
		{"sqlite3, 10,000 inserts, WAL, Azurite", "s", on(blobs, insertRows), []reference{{on(gocryptfsNew, insertRows), atMost(2)}}},
		{"tar extraction of small files, Azurite", "s", on(blobs, extractArchive), []reference{{on(gocryptfsNew, extractArchive), atMost(2)}}},
		{"memory writing 4 times the large file, Azurite", "MiB", on(cloisterOutput(newInAzurite, "--memory", "256MiB"), peakOfWriter),
			[]reference{{bar: within(384, "MiB")}}},
	}
}
