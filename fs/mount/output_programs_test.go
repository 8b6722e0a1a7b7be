//go:build linux

package mount_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/azurite"
)

// writing is done on the mount after programsFolder, by programs that copy what
// is there, and that find out themselves whether the copy is right.
const writing = `
	rsync -aHS repo text sparse parquet wal.db rsynced/
	[ -z "$(rsync -aHSci repo text sparse parquet wal.db rsynced/)" ]
	echo more >>text/a/150; sed -i s/line/Zeile/ text/a/101; rm text/a/9
	rsync -aH --delete --inplace --no-whole-file text/ rsynced/text/; diff -r --no-dereference text rsynced/text
	mkdir untarred; tar -cf - repo text .hidden | tar -xf - -C untarred; diff -r --no-dereference text untarred/text
	git clone -q repo cloned; diff -r -x .git repo cloned; git -C cloned fsck --strict --no-progress
	sqlite3 wal.db "pragma journal_mode; begin; update t set b = hex(randomblob(60)) where a % 3 = 0; commit; pragma wal_checkpoint(truncate); pragma integrity_check;" | tr '\n' ' ' | grep -q '^wal 0|0|0 ok $'
	node "$DUCKDB/query.mjs" "copy (select part, count(*) as n, max(word) as w from read_parquet('parquet/*.parquet') group by part order by part) to 'sum.parquet' (format parquet)" >/dev/null`

// whole says what every file is like and what it holds; a directory's size is
// that of where it lies.
const whole = `find . \( -type d -printf '%p %y %m %T@\n' -o -printf '%p %y %m %s %n %T@ %l\n' \) | LC_ALL=C sort
	find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
	tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime -cf - . | sha256sum`

// TestOutputProgramsElsewhere has git, sqlite3 (WAL), DuckDB, tar and rsync
// write to an output in a blob service; then the volume is decrypted into a
// plain folder, and the programs read there what they read on the mount.
func TestOutputProgramsElsewhere(t *testing.T) {
	for _, needs := range []string{"git", "sqlite3", "rg", "node", "python3", "tar", "rsync"} {
		if _, err := exec.LookPath(needs); err != nil {
			t.Fatalf("this test runs %s: %v; run `make test-setup`", needs, err)
		}
	}
	if _, err := os.Stat("../../internal/duckdb/node_modules/@duckdb/node-api"); err != nil {
		t.Fatalf("this test runs DuckDB: %v; run `make test-setup`", err)
	}
	server := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	s := newOutputSite(t, uint32(os.Geteuid()))
	s.volume = server.NewURL()
	d := s.mount(t, "--output", "--memory", "32MiB")
	run(t, s.dir, programsFolder)
	run(t, s.dir, writing)
	want := reading(t, s.dir)
	d.stop(s)
	elsewhere := filepath.Join(t.TempDir(), "result")
	(&keptVolume{site: s}).cloister(t, "prep", "decrypt", "--key", s.key, s.volume, elsewhere)
	for name, got := range reading(t, elsewhere) {
		if name == "tar" {
			// It also looks for holes, which the mount knows to the byte and
			// other file systems in blocks; what it reads is part of whole.
			continue
		}
		sameTree(t, name+", decrypted elsewhere", got, want[name])
	}
}

// reading returns what the programs print in a folder.
func reading(t *testing.T, dir string) map[string]string {
	said := map[string]string{"every file": run(t, dir, whole)}
	for _, p := range programs {
		if said[p.name] = run(t, dir, p.script); !strings.Contains(said[p.name], p.says) {
			t.Errorf("%s in %s does not say %q: %s", p.name, dir, p.says, clip(said[p.name]))
		}
	}
	return said
}
