package framework

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloister/internal/fault"
	"cloister/policy/cce"
)

// FuzzRead: a policy's text is a stranger's program. What is read of it can be
// explained; all else is refused as such.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("..", "cce", "testdata", "a*.rego"))
	if err != nil || len(files) == 0 {
		f.Fatalf("golden policies: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("package policy\ndefault containers := []\ncontainers := [{}] if input.x\n"))
	f.Add([]byte("package policy\nallow_dump_stacks := true\nmount_device := data.framework.mount_device\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p, err := Read(ctx, text)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%v", err)
			}
			return
		}
		cce.Explain(p)
		if list := cce.Diff(p, p); len(list) != 0 {
			t.Errorf("differs from itself: %v", list)
		}
	})
}
