//go:build linux

package mount_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloister/internal/azurite"
)

// programs are run in the folder, and in the mount of a volume made of it; what
// they print must be the same. None writes below its working directory.
var programs = []struct{ name, needs, script, says string }{
	{"git fsck", "git", "git -C repo fsck --full --strict --no-progress", ""},
	{"git log", "git", "git -C repo log --stat --format='%H %an %s' && git -C repo show --stat HEAD~7 && git -C repo blame f3", "commit 30"},
	{"git status", "git", "GIT_OPTIONAL_LOCKS=0 git -C repo status --porcelain=v2 --branch && git -C repo grep -n 'line 7'", "branch.oid"},
	{"git clone", "git", `at=$(mktemp -d) && git clone -q --no-hardlinks repo "$at/c" && git -C "$at/c" rev-parse HEAD HEAD^{tree} && diff -r -x .git repo "$at/c"; code=$?; rm -rf "$at"; exit $code`, ""},
	{"sqlite3", "sqlite3", `sqlite3 'file:delete.db?mode=ro' 'pragma integrity_check; select count(*), sum(a), sum(length(b)) from t; select b from t where a = 1234; select c, count(*) from t group by c order by c;'`, "ok"},
	{"sqlite3, a database that was in WAL mode", "sqlite3", `sqlite3 'file:wal.db?immutable=1' 'pragma integrity_check; select count(*), sum(a) from t;'`, "ok"},
	{"ripgrep", "rg", `rg --sort path -n 'line 7$' . && rg --sort path --mmap -c 'e' text && rg --files --sort path --hidden .`, "line 7"},
	{"DuckDB over Parquet", "node", `node "$DUCKDB/query.mjs" "select part, count(*), sum(id), sum(price), min(word), max(word) from read_parquet('parquet/*.parquet') group by part order by part" &&
		node "$DUCKDB/query.mjs" "select id, word from read_parquet('parquet/p1.parquet') where id in (5, 77777, 123456) order by id" &&
		node "$DUCKDB/query.mjs" "select row_group_id, column_id, stats_min, stats_max, total_compressed_size from parquet_metadata('parquet/p0.parquet')"`, `["0",`},
	{"python3 mmap", "python3", `python3 -c '
import hashlib, mmap, os, random
for name in ("delete.db", "parquet/p0.parquet", "sparse"):
    with open(name, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        print(name, len(m), hashlib.sha256(m).hexdigest(), m.find(b"\x01\x02"), m.rfind(b"e"))
        r = random.Random(1)
        print(hashlib.sha256(b"".join(m[i:i + 77] for i in (r.randrange(len(m)) for _ in range(2000)))).hexdigest())
'`, "parquet/p0.parquet"},
	{"tar", "tar", "tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime -cf - . | sha256sum && tar --sort=name --sparse -cf - sparse text | sha256sum && tar -cf - text | tar -tf - | LC_ALL=C sort", "text/a/"},
	{"cp, cmp, du, find", "cmp", `at=$(mktemp -d) && cp -a . "$at/c" && diff -r --no-dereference . "$at/c" && cmp sparse "$at/c/sparse"; code=$?; rm -rf "$at"; find . \( -type d -printf '%p %y %m %n %T@\n' -o -printf '%p %y %m %s %n %T@ %l\n' \) | LC_ALL=C sort; exit $code`, "./sparse"},
}

// programsFolder makes the folder that the programs read.
const programsFolder = `
	git init -q -b main repo; cd repo; git config user.email a@example.org; git config user.name a; git config gc.auto 0
	for i in $(seq 30); do for j in 1 2 3 4 5 6 7; do echo "commit $i file $j line $((i * j % 11))" >>f$j; done
		git add -A; git commit -qm "commit $i"; [ $i = 20 ] && git gc -q; done; cd ..
	for mode in delete wal; do sqlite3 $mode.db "pragma journal_mode=$mode; create table t(a integer primary key, b, c); create index i on t(c, b);
		begin; with recursive n(i) as (select 1 union all select i+1 from n where i<20000) insert into t select i, hex(randomblob(50)), i % 7 from n; commit;
		delete from t where a % 5 = 0;" >/dev/null; done
	mkdir -p text/a/b/c .hidden; for i in $(seq 200); do seq -f "line %g" $i >text/a/$i; done; ln text/a/100 text/a/b/c/hard; ln -s ../a/7 text/soft; echo x >.hidden/y
	truncate -s 30M sparse; printf '\001\002here' | dd of=sparse bs=1 seek=20000000 conv=notrunc 2>/dev/null
	mkdir parquet; for i in 0 1 2; do node "$DUCKDB/query.mjs" "copy (select range as id, $i as part, (range * 7 % 1000) / 10.0 as price, md5((range + $i)::varchar) as word
		from range(150000)) to 'parquet/p$i.parquet' (format parquet, row_group_size 30000)" >/dev/null; done`

// run runs a script in a folder and returns what it printed.
func run(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	duckdb, err := filepath.Abs("../../internal/duckdb")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "DUCKDB="+duckdb, "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", dir, script, err, out)
	}
	return string(out)
}

// TestPrograms runs real programs on a volume in a directory and on one in a
// blob service.
func TestPrograms(t *testing.T) {
	for _, p := range programs {
		if _, err := exec.LookPath(p.needs); err != nil {
			t.Fatalf("this test runs %s: %v; run `make test-setup`", p.needs, err)
		}
	}
	if _, err := os.Stat("../../internal/duckdb/node_modules/@duckdb/node-api"); err != nil {
		t.Fatalf("this test runs DuckDB: %v; run `make test-setup`", err)
	}
	folder := t.TempDir()
	run(t, folder, programsFolder)
	want := make([]string, len(programs))
	for i, p := range programs {
		if want[i] = run(t, folder, p.script); !strings.Contains(want[i], p.says) || want[i] == "" && p.says != "" {
			t.Fatalf("%s on the plain folder does not say %q: %s", p.name, p.says, want[i])
		}
	}
	server := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	for name, volume := range map[string]string{"directory": "", "blob service": server.NewURL()} {
		t.Run(name, func(t *testing.T) {
			s := newOutputSite(t, uint32(os.Geteuid()))
			if volume != "" {
				s.volume = volume
			}
			(&keptVolume{site: s}).cloister(t, "prep", "encrypt", "--key", s.key, folder, s.volume)
			d := s.mount(t, "--memory", "32MiB")
			for i, p := range programs {
				if got := run(t, s.dir, p.script); got != want[i] {
					t.Errorf("%s: on the mount it says\n%s\non the plain folder\n%s", p.name, clip(got), clip(want[i]))
				}
			}
			d.stop(s)
		})
	}
}

func clip(s string) string {
	if len(s) > 2000 {
		return fmt.Sprintf("%s... (%d bytes)", s[:2000], len(s))
	}
	return s
}
