package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// printHeading says what was measured, with what, and when.
func printHeading(ctx context.Context, c config) {
	fmt.Printf("%s, %s, %d CPUs, %s, %s; work on %s\n", time.Now().Format(time.DateOnly), firstLine(ctx, "uname", "-sr"),
		runtime.NumCPU(), runtime.GOARCH, runtime.Version(), c.dir)
	fmt.Printf("%s; %s; %s\n", firstLine(ctx, "gocryptfs", "-version"), firstLine(ctx, "rclone", "version"), firstLine(ctx, "restic", "version"))
	fmt.Printf("large file %d MiB, %d small files of 0.5 to 8 KiB, %d many files; median of %d; Azurite in memory on loopback\n\n",
		c.size>>20, c.files, c.many, c.rounds)
	printTableHead()
}

// firstLine returns what a program says first, or that it is missing.
func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return name + " is missing"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
