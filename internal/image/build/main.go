// Command build makes the project's container images from its programs, for
// `make image`: an OCI layout with an image for the runtime and one for the
// shim, each with its SBOM, and beside it what the signed index of runtime
// images says of them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/image"
	"cloister/policy/infra"
)

// programs are in the binaries' folder; each becomes an image of its name, with
// the programs that it starts.
var programs = [...]struct {
	name, user string
	with       []string
}{{"cloisterd", image.Root, []string{"cloister-rego"}}, {"cloister-shim", image.Nobody, nil}}

func main() {
	bin := flag.String("bin", "bin/image", "the `DIR` of the programs, built for production")
	out := flag.String("out", "bin/image/layout", "the OCI layout to write, a `DIR` that is not there")
	entries := flag.String("entries", "bin/image/entries.json", "the `FILE` for the index's entries")
	repository := flag.String("repository", "cloister.example", "the `PREFIX` under which the images are published")
	flag.Parse()
	err := build(*bin, *out, *entries, *repository)
	cli.Report(os.Stderr, "build", err)
	os.Exit(cli.ExitCode(err))
}

func build(bin, out, file, repository string) error {
	var images []image.Named
	var entries []infra.Image
	for _, p := range programs {
		named, err := imageOf(bin, p.user, append([]string{p.name}, p.with...)...)
		if err != nil {
			return fmt.Errorf("making the image of %s: %w", p.name, err)
		}
		entry, err := image.EntryOf(context.Background(), p.name, repository+"/"+p.name, named.Image)
		if err != nil {
			return fmt.Errorf("measuring the image of %s: %w", p.name, err)
		}
		images, entries = append(images, named), append(entries, entry)
	}
	if err := image.WriteLayout(out, images...); err != nil {
		return err
	}
	text, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	for i, e := range entries {
		fmt.Println(programs[i].name, e.Digest)
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// imageOf makes the image of a program, the first, and those that it starts.
func imageOf(bin, user string, names ...string) (image.Named, error) {
	var files []image.File
	size := 0
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return image.Named{}, fault.Errorf(fault.NotFound, "run make image, which builds it first", "reading the program: %w", err)
		}
		files, size = append(files, image.File{Path: "/" + name, Data: data}), size+len(data)
	}
	if size > image.MaxSize {
		return image.Named{}, fault.Errorf(fault.Refused, "take out what it links needlessly", "%q have %d bytes, the bound is %d", names, size, image.MaxSize)
	}
	img, err := image.Scratch(user, files[0], files[1:]...)
	if err != nil {
		return image.Named{}, err
	}
	sbom, err := image.SBOM(files[0], files[1:]...)
	return image.Named{Name: names[0], Image: img, SBOM: sbom}, err
}
