package main

import (
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/cli"
	"cloister/internal/image"
	policyimage "cloister/policy/image"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// cloister runs the tool in this process.
func cloister(args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	app := newApp()
	app.Writer, app.ErrWriter = &out, &errs
	code = cli.Main(app, append([]string{"cloister"}, args...))
	return code, out.String(), errs.String()
}

// must is for what a test needs to go on.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wrapper has a runtime's layout and an application's image in every form.
type wrapper struct {
	dir, digest string
	forms       map[string]string // what the image is called, by form
}

func newWrapper(t *testing.T) wrapper {
	w := wrapper{dir: t.TempDir()}
	scratch := func(path, user string) v1.Image {
		return must(image.Scratch(user, image.File{Path: path, Data: []byte(path)}))(t)
	}
	layout := func(name string, images ...image.Named) string {
		dir := filepath.Join(w.dir, name)
		must(0, image.WriteLayout(dir, images...))(t)
		return dir
	}
	layout("runtime", image.Named{Name: "cloisterd", Image: scratch("/cloisterd", image.Root)}, image.Named{Name: "cloister-shim", Image: scratch("/cloister-shim", image.Nobody)})

	app := must(mutate.Config(scratch("/bin/count", image.Nobody), v1.Config{
		Entrypoint: []string{"count", "--of"}, Cmd: []string{"it's all"}, Env: []string{"PATH=/bin", "LEVEL=2"}, User: "1000:1001", WorkingDir: "/work",
	}))(t)
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/lab/count"
	must(0, remote.Write(must(name.ParseReference(repository+":latest"))(t), app))(t)
	w.digest = must(app.Digest())(t).String()
	archive := filepath.Join(w.dir, "app.tar")
	must(0, tarball.WriteToFile(archive, must(name.NewTag("lab/count:latest"))(t), app))(t)
	w.forms = map[string]string{
		"registry": repository + "@" + w.digest, "tag": repository + ":latest", "absent": repository + "@sha256:" + strings.Repeat("0", 64),
		"layout": "oci:" + layout("app", image.Named{Name: "app", Image: app}), "archive": "docker-archive:" + archive,
	}
	return w
}

func (w wrapper) wrap(form, out string, args ...string) (code int, stdout, stderr string) {
	return cloister(append([]string{"image", "wrap", "--runtime", filepath.Join(w.dir, "runtime"), "--repository", "registry.example/lab/count",
		"--out", filepath.Join(w.dir, out), w.forms[form]}, args...)...)
}

// TestImageWrap: what is printed can be pasted, and the same image gives the same
// result wherever it comes from; but an archive keeps layers unpacked, and so not
// their digests.
func TestImageWrap(t *testing.T) {
	w := newWrapper(t)
	code, stdout, stderr := w.wrap("registry", "out")
	digest, rest, _ := strings.Cut(strings.TrimPrefix(stdout, "digest "), "\n")
	if code != 0 || len(digest) != len("sha256:")+64 {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	for _, want := range []string{
		"cloister spec add application --name NAME", "--image registry.example/lab/count@" + digest, "--env LEVEL=2 ", "--env PATH=/bin ",
		"--workdir /work", "--uid 1000", "--gid 1001", `SPECIFICATION /bin/count --of 'it'\''s all'`,
	} {
		if !strings.Contains(rest, want) {
			t.Errorf("%q is not in what it printed: %s", want, rest)
		}
	}
	wrapped := must(policyimage.InLayout(filepath.Join(w.dir, "out"), "application"))(t)
	if got := must(wrapped.Parts.Digest())(t).String(); got != digest {
		t.Errorf("printed was %s, written %s", digest, got)
	}
	if code, again, stderr := w.wrap("layout", "again"); code != 0 || !strings.HasPrefix(again, "digest "+digest+"\n") {
		t.Errorf("out of a layout: exit code %d, %q, %q", code, again, stderr)
	}
	if code, _, stderr := w.wrap("archive", "archived"); code != 0 {
		t.Errorf("out of an archive: exit code %d, %q", code, stderr)
	}
	code, stdout, stderr = w.wrap("registry", "beside", "--model", "distributed", "--json")
	var report wrapReport
	if err := json.Unmarshal([]byte(stdout), &report); code != 0 || err != nil {
		t.Fatalf("exit code %d, %q, %q", code, stdout, stderr)
	}
	beside := must(policyimage.InLayout(report.Layout, "application"))(t).Config
	if beside.Entrypoint[0] != "/cloister-shim" || beside.User != "1000:1001" || len(report.Application.Image.Layers) != 2 {
		t.Errorf("%+v, %+v", beside, report)
	}
}

func TestImageWrapRefuses(t *testing.T) {
	w := newWrapper(t)
	for name, tc := range map[string]struct {
		form string
		args []string
		want int
		said string
	}{
		"a tag":           {"tag", nil, cli.ExitUsage, "not named by its digest"},
		"no such image":   {"absent", nil, cli.ExitNotFound, "hint: correct the repository or the digest"},
		"no such model":   {"registry", []string{"--model", "micro"}, cli.ExitUsage, "no model"},
		"no runtime":      {"registry", []string{"--runtime", filepath.Join(w.dir, "app")}, cli.ExitNotFound, "0 images called cloisterd"},
		"no layout":       {"registry", []string{"--runtime", filepath.Join(w.dir, "absent")}, cli.ExitNotFound, "correct the path"},
		"something there": {"registry", []string{"--out", w.dir}, cli.ExitConflict, "is there already"},
	} {
		code, stdout, stderr := w.wrap(tc.form, "out", tc.args...)
		if code != tc.want || !strings.Contains(stderr, tc.said) || code != 0 && stdout != "" {
			t.Errorf("%s: exit code %d, %q, %q", name, code, stdout, stderr)
		}
	}
	if code, _, stderr := w.wrap("layout", "out"); code != 0 {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	w.forms["wrapped"] = "oci:" + filepath.Join(w.dir, "out")
	if code, _, stderr := w.wrap("wrapped", "twice"); code != cli.ExitRefused || !strings.Contains(stderr, "has /cloisterd already") {
		t.Errorf("wrapped twice: exit code %d, %q", code, stderr)
	}
}
