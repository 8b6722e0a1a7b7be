package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cloister/internal/cleanroom"
	"cloister/internal/cli"
)

// TestRestart: an application that fails starts again, on the same mounts, until
// it ends well; and what it keeps beside them is gone.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) { c.Application = []string{"--restart", "on-failure"} })
	run := r.start()
	run.do("echo first > $OUT/first && echo first > /tmp/first")
	run.tell("exit 3")
	until(t, "the application ends", func() bool { return strings.Contains(run.stderr.String(), "exit=3") })
	if said := run.hear(); said != "up" {
		t.Fatalf("the application said %q", said)
	}
	run.do("test ! -e /tmp/first && cp $OUT/first $OUT/second")
	run.tell("exit 0")
	run.ends(0)
	files := r.decrypt(run.reference("output"))
	if files["first"] != "first\n" || files["second"] != "first\n" {
		t.Errorf("the output is %q", files)
	}
	if last := r.last(); !last.Complete {
		t.Errorf("recorded as %+v", last)
	}
	// Each start is recorded, and consent was asked right before it.
	checks := r.entries("consent-check")
	if again := checks[len(checks)-1]; len(r.entries("record-execution")) != 4 || again.Body.What != "starting checksums again" {
		t.Errorf("%d starts and ends are recorded, and consent was asked last for %q", len(r.entries("record-execution")), again.Body.What)
	}
	r.checkNothingLeft()
}

// TestRestartWithoutConsent: consent withdrawn while an application runs keeps it
// from starting again.
func TestRestartWithoutConsent(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) { c.Application = []string{"--restart", "always"} })
	run := r.start("--consent-interval", "10m")
	run.do("echo first > $OUT/first")
	r.cloister(r.By("hospital", "consent", "withdraw")...)
	run.tell("exit 0")
	run.ends(cli.ExitRefused, "starting checksums again", `party "hospital" withdrew`)
	if files := r.decrypt(run.reference("partial")); files["first"] != "first\n" {
		t.Errorf("the output is %q", files)
	}
	if last := r.last(); !last.Completed || last.Complete || !strings.Contains(last.Detail, "starting checksums again") {
		t.Errorf("recorded as %+v", last)
	}
}

// TestExecutables: programs, scripts and libraries run from the mount of a
// volume, read and mapped by the kernel through FUSE.
func TestExecutables(t *testing.T) {
	t.Parallel()
	r := newRoomWith(t, os.Getuid(), func(c *cleanroom.Room) { programs(t, c.Path("data")) })
	run := r.start()
	run.do(`test "$($IN/bin/busybox echo said)" = said`)
	run.do(`test "$($IN/bin/script said)" = "script said"`)
	// It maps the libraries that are beside it, and runs out of one of them.
	run.do(`LD_LIBRARY_PATH=$IN/lib $IN/bin/cat /proc/self/maps > $OUT/maps`)
	run.do(`test "$(stat -f -c %T $IN/bin/cat)" = fuseblk || test "$(stat -f -c %T $IN/bin/cat)" = fuse`)
	run.tell("exit 0")
	run.ends(0)
	maps := r.decrypt(run.reference("output"))["maps"]
	for _, file := range []string{"/input/bin/cat", "/input/lib/libc.so.6"} {
		if !strings.Contains(maps, "r-xp") || !strings.Contains(maps, file) {
			t.Errorf("%s is not run from the mount: %s", file, maps)
		}
	}
}

// programs puts into a folder a static program, one that needs libraries, those,
// and a script.
func programs(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "lib"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatalf("%v; run `make test-setup` (apt-get install busybox-static)", err)
		}
		must(t, os.WriteFile(filepath.Join(dir, to), data, 0o755))
	}
	put("/bin/busybox", "bin/busybox")
	put("/bin/cat", "bin/cat")
	libraries, err := exec.Command("ldd", "/bin/cat").Output()
	must(t, err)
	for field := range strings.FieldsSeq(string(libraries)) {
		if filepath.Base(field) == "libc.so.6" && filepath.IsAbs(field) {
			put(field, "lib/libc.so.6")
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "bin", "script"), []byte("#!/bin/sh\necho script \"$1\"\n"), 0o755))
}

// bomb forks until it may not, says how often it could, and ends with all of it.
const bomb = `import os, signal, sys, time
os.setpgid(0, 0)
n = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        n += 1
except BlockingIOError:
    print(n)
    sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)
`

// TestContained: an application that opens ten thousand files, fills what it is
// given for temporary files, or forks until nothing more is, harms itself: its
// mounts still serve it, and the run comes to its end.
func TestContained(t *testing.T) {
	t.Parallel()
	for name, uid := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoomWith(t, uid, func(c *cleanroom.Room) {
				must(t, os.MkdirAll(c.Path("data"), 0o755))
				must(t, os.WriteFile(c.Path("data", "bomb.py"), []byte(bomb), 0o644))
				c.Application = []string{"--uid", "4711", "--gid", "4711", "--memory-mib", "64", "--milli-cpu", "1000"} // limits are by user
			})
			run := r.start()
			run.do("echo kept > $OUT/kept")
			refused := func(line string) {
				t.Helper()
				run.tell(line)
				if run.hear() == "0" {
					t.Errorf("%s: the application can", line)
				}
			}
			refused("head -c 100000000 /dev/zero > /tmp/filler")
			run.do(`test "$(stat -c %s /tmp/filler)" -le 16777216 && rm /tmp/filler`)
			run.do(`python3 -c 'import os; all = [os.open(os.environ["IN"] + "/private/secret.txt", os.O_RDONLY) for i in range(10000)]'`)
			run.do(`python3 $IN/bomb.py > $OUT/bomb; test "$?" = 137`)
			run.do("cat $IN/private/secret.txt > $OUT/secret")
			run.tell("exit 0")
			run.ends(0)
			files := r.decrypt(run.reference("output"))
			if n, err := strconv.Atoi(strings.TrimSpace(files["bomb"])); err != nil || n < 1000 || n > 4096 {
				t.Errorf("it could fork %q times", files["bomb"])
			}
			if files["kept"] != "kept\n" || files["secret"] != "for the owner alone\n" {
				t.Errorf("the output is %q", files)
			}
			r.checkNothingLeft()
		})
	}
}
