package image

import (
	"encoding/json"
	"fmt"
	"slices"

	"cloister/internal/fault"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// OriginalLabel is the label in which a wrapped image keeps the configuration
// that the application's had: JSON, as in the OCI image specification.
const OriginalLabel = "cloister.original"

// Wrapped is an application's image with a runtime, or the shim, in front.
type Wrapped struct {
	Image v1.Image
	// What the application's image says of its process, for the specification: the
	// runtime starts it, and hands on nothing that the specification does not say.
	Command     []string // the program's absolute path and its arguments; none where the image names none
	Environment []string
	WorkingDir  string
	User        *User // nil where the image names none, or root
}

// User is a numeric user and group.
type User struct{ UID, GID uint32 }

// Wrap appends the layers of front, an image that Scratch made, to the
// application's, and makes its program the entrypoint. The layers stay what they
// are, so that their digests, and the hashes that the platform measures, are
// those that the index lists; the same two images give the same digest.
//
// Nothing of the application's configuration reaches the program in front: an
// image's author could otherwise speak to the runtime, through its environment,
// in the other parties' absence. Errors are of kind fault.Refused.
func Wrap(app, front v1.Image) (Wrapped, error) {
	config, err := app.ConfigFile()
	if err != nil {
		return Wrapped{}, err
	}
	program, user, err := entrypoint(front)
	if err != nil {
		return Wrapped{}, err
	}
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		return Wrapped{}, fault.Errorf(fault.Refused, "build the application for linux/amd64", "the application's image is for %s/%s", config.OS, config.Architecture)
	}
	files, err := listFiles(app)
	if err != nil {
		return Wrapped{}, fmt.Errorf("reading the application's files: %w", err)
	}
	if files.has(program) {
		return Wrapped{}, fault.Errorf(fault.Refused, "wrap the image as it was before, without it", "the application's image has %s already", program)
	}
	w, err := describe(config.Config, files)
	if err != nil {
		return Wrapped{}, err
	}
	if user != Root && w.User != nil {
		user = fmt.Sprintf("%d:%d", w.User.UID, w.User.GID)
	}
	w.Image, err = put(app, front, config, program, user)
	return w, err
}

func entrypoint(front v1.Image) (program, user string, err error) {
	config, err := front.ConfigFile()
	if err != nil {
		return "", "", err
	}
	if len(config.Config.Entrypoint) != 1 || config.Config.User == "" {
		return "", "", fault.Errorf(fault.Refused, "give the layout that make image writes", "what is to be put in front is not an image of the runtime or the shim")
	}
	return config.Config.Entrypoint[0], config.Config.User, nil
}

// put makes the image: the application's layers, then front's.
func put(app, front v1.Image, config *v1.ConfigFile, program, user string) (v1.Image, error) {
	original, err := json.Marshal(config.Config)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{OriginalLabel: string(original)}
	for name, value := range config.Config.Labels {
		labels[name] = value
	}
	img, err := mutate.Config(app, v1.Config{
		Entrypoint: []string{program}, User: user, WorkingDir: "/", Labels: labels, ExposedPorts: config.Config.ExposedPorts,
	})
	if err != nil {
		return nil, err
	}
	media, err := layerType(app)
	if err != nil {
		return nil, err
	}
	layers, err := front.Layers()
	if err != nil {
		return nil, err
	}
	for _, layer := range layers {
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: media, History: history(program)}); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// layerType is how the application's manifest would call our layer: both
// families mean a gzipped tar, and some registries want one family in a manifest.
func layerType(app v1.Image) (types.MediaType, error) {
	media, err := app.MediaType()
	if media == types.DockerManifestSchema2 {
		return types.DockerLayer, err
	}
	return types.OCILayer, err
}

// describe reads what the image says of the application's process.
func describe(c v1.Config, files *fileList) (w Wrapped, err error) {
	w = Wrapped{Command: slices.Concat(c.Entrypoint, c.Cmd), Environment: c.Env, WorkingDir: c.WorkingDir}
	if len(w.Command) > 0 {
		if w.Command[0], err = files.program(w.Command[0], c); err != nil {
			return w, err
		}
	}
	w.User, err = files.user(c.User)
	return w, err
}
