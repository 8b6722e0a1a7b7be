package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"cloister/internal/fault"
	"cloister/policy/infra"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is a file of a customer's image.
type entry struct{ name, link, content string }

// customer is an image as a customer's tool makes it: docker's media types.
func customer(t *testing.T, config v1.Config, files ...entry) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o755}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}, Config: config})
	if err == nil {
		img, err = mutate.AppendLayers(img, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var debian = []entry{
	{name: "bin", link: "usr/bin"}, {name: "usr/"}, {name: "usr/bin/"}, {name: "usr/bin/python3", link: "python3.11"}, {name: "usr/bin/python3.11", content: "elf"},
	{name: "etc/"}, {name: "etc/passwd", content: "root:x:0:0::/:/bin/sh\nlab:x:1001:1002::/:/bin/sh\nodd:x:1003:0::/:/bin/sh\n"}, {name: "etc/group", content: "root:x:0:\nstaff:x:50:lab\n"},
}

func runtime(t *testing.T) v1.Image {
	t.Helper()
	img, err := Scratch(Root, File{Path: "/cloisterd", Data: []byte("elf")})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func shim(t *testing.T) v1.Image {
	t.Helper()
	img, err := Scratch(Nobody, File{Path: "/cloister-shim", Data: []byte("elf")})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestWrap(t *testing.T) {
	config := v1.Config{
		Entrypoint: []string{"python3", "-m"}, Cmd: []string{"job"}, Env: []string{"PATH=/usr/bin:/bin", "SSL_CERT_FILE=/mine.pem"}, WorkingDir: "/work", User: "lab",
		Labels: map[string]string{"maintainer": "lab"}, ExposedPorts: map[string]struct{}{"80/tcp": {}},
		Volumes: map[string]struct{}{"/data": {}}, Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "x"}}, StopSignal: "SIGKILL",
	}
	app := customer(t, config, debian...)
	w, err := Wrap(app, runtime(t))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w.Command, []string{"/usr/bin/python3", "-m", "job"}) || !reflect.DeepEqual(w.Environment, config.Env) || w.WorkingDir != "/work" || *w.User != (User{1001, 1002}) {
		t.Errorf("said of the application: %+v, user %+v", w, w.User)
	}
	got, err := w.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := got.Config
	original := c.Labels[OriginalLabel]
	delete(c.Labels, OriginalLabel)
	want := v1.Config{Entrypoint: []string{"/cloisterd"}, User: "0:0", WorkingDir: "/", Labels: config.Labels, ExposedPorts: config.ExposedPorts}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the program in front is configured with %+v, want %+v", c, want)
	}
	var kept v1.Config
	if err := json.Unmarshal([]byte(original), &kept); err != nil || !reflect.DeepEqual(kept, config) {
		t.Errorf("kept is %s, %v", original, err)
	}
	again, err := Wrap(app, runtime(t))
	if err != nil || digest(t, again.Image) != digest(t, w.Image) {
		t.Errorf("the same two images, two digests: %v", err)
	}
	checkLayers(t, app, runtime(t), w.Image)
}

// checkLayers wants the layers of both, unchanged, and one family of media types.
func checkLayers(t *testing.T, app, front, wrapped v1.Image) {
	t.Helper()
	var want []v1.Hash
	for _, img := range []v1.Image{app, front} {
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Layers {
			want = append(want, l.Digest)
		}
	}
	m, err := wrapped.Manifest()
	if err != nil || len(m.Layers) != len(want) {
		t.Fatalf("%+v, %v", m, err)
	}
	for i, l := range m.Layers {
		if l.Digest != want[i] || l.MediaType != types.DockerLayer {
			t.Errorf("layer %d is %s, %s; want %s", i, l.Digest, l.MediaType, want[i])
		}
	}
}

// TestWrapShim: the shim runs as the application's user, and never as root.
func TestWrapShim(t *testing.T) {
	for user, want := range map[string]string{"": Nobody, "root": Nobody, "0": Nobody, "lab": "1001:1002", "lab:staff": "1001:50", "7": "7:7", "7:8": "7:8"} {
		w, err := Wrap(customer(t, v1.Config{User: user}, debian...), shim(t))
		if err != nil {
			t.Errorf("%q: %v", user, err)
			continue
		}
		c, err := w.Image.ConfigFile()
		if err != nil || c.Config.User != want || c.Config.Entrypoint[0] != "/cloister-shim" {
			t.Errorf("user %q became %+v, %v; want %s", user, c.Config, err, want)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	wrapped, err := Wrap(customer(t, v1.Config{}, debian...), runtime(t))
	if err != nil {
		t.Fatal(err)
	}
	arm, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "arm64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		app, front v1.Image
		said       string
	}{
		"twice":             {wrapped.Image, runtime(t), "has /cloisterd already"},
		"a link is there":   {customer(t, v1.Config{}, entry{name: "cloisterd", link: "etc"}, entry{name: "etc/"}), runtime(t), "has /cloisterd already"},
		"another processor": {arm, runtime(t), "linux/arm64"},
		"no runtime":        {customer(t, v1.Config{}), customer(t, v1.Config{}), "not an image of the runtime"},
		"no such program":   {customer(t, v1.Config{Cmd: []string{"perl"}}, debian...), runtime(t), "nowhere on its PATH"},
		"no such user":      {customer(t, v1.Config{User: "eve"}, debian...), runtime(t), `user "eve"`},
		"the root group":    {customer(t, v1.Config{User: "odd"}, debian...), runtime(t), `user "odd"`},
	} {
		if _, err := Wrap(tc.app, tc.front); fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), tc.said) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLinksThatNeverEnd: a stranger's image cannot keep Wrap busy.
func TestLinksThatNeverEnd(t *testing.T) {
	l := &fileList{links: map[string]string{"/a": "/b", "/b": "/a", "/up": "../../../.."}}
	if l.has("/a") || l.has("/a/x") || l.has("/absent") {
		t.Error("something is there that is not")
	}
	if !l.has("/up") {
		t.Error("a link to the root leads nowhere")
	}
}

// TestRuntimeKeepsItsHash: what the index lists of the runtime is found in every
// image that it was put in front of.
func TestRuntimeKeepsItsHash(t *testing.T) {
	own, err := EntryOf(t.Context(), infra.ProgramRuntime, "registry.example/cloisterd", runtime(t))
	if err != nil {
		t.Fatal(err)
	}
	w, err := Wrap(customer(t, v1.Config{}, debian...), runtime(t))
	if err != nil {
		t.Fatal(err)
	}
	all, err := EntryOf(t.Context(), "", "registry.example/lab/app", w.Image)
	if err != nil || len(all.Layers) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	index := infra.Index{MinSVN: 1, Runtimes: []infra.Image{own}}
	if found, err := index.Find(infra.ProgramRuntime, all.Reference, all.Layers); err != nil || found.Digest != own.Digest {
		t.Errorf("%+v, %v", found, err)
	}
}
