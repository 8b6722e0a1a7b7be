package prep_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store"
	"cloister/fs/store/storetest"
	"cloister/internal/azurite"
	"cloister/prep"
)

// Variables by which this test binary, started again, knows that it is to seal
// a folder and to be killed at a put.
const (
	killAt     = "CLOISTER_TEST_KILL_AT"
	killSource = "CLOISTER_TEST_KILL_SOURCE"
	killVolume = "CLOISTER_TEST_KILL_VOLUME"
)

func TestMain(m *testing.M) {
	if at := os.Getenv(killAt); at != "" {
		sealUntilKilled(at)
		os.Exit(3) // it was to be killed
	}
	os.Exit(m.Run())
}

// sealUntilKilled kills this process when the nth put is asked for: whatever
// the others are doing then, they are in the middle of.
func sealUntilKilled(at string) {
	nth, err := strconv.Atoi(at)
	if err != nil {
		panic(err)
	}
	s, err := store.Open(context.Background(), os.Getenv(killVolume), store.Options{Create: true})
	if err != nil {
		panic(err)
	}
	kill := storetest.Fault{Op: storetest.Put, Nth: nth, Hook: func(storetest.Call) {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	}}
	_, err = prep.Encrypt(context.Background(), &storetest.Faulty{Store: s, Faults: []storetest.Fault{kill}},
		prep.EncryptOptions{Source: os.Getenv(killSource), Root: testRoot()})
	fmt.Fprintln(os.Stderr, err)
}

func sealAndKill(t *testing.T, source, volume string, nth int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killAt+"="+strconv.Itoa(nth), killSource+"="+source, killVolume+"="+volume)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.Exited() {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
}

// killFolder has a file of three objects, some of one, and a pack; 9 objects
// and, with their records, 18 puts before the manifest.
func killFolder(t *testing.T) string {
	source := filepath.Join(t.TempDir(), "in")
	write(t, source+"/huge", noise(70<<20, 1))
	for i := range 5 {
		write(t, fmt.Sprintf("%s/large/%d", source, i), noise(1<<20+i, uint64(i)))
	}
	for i := range 30 {
		write(t, fmt.Sprintf("%s/small/%d", source, i), noise(1000*i, uint64(i)))
	}
	return source
}

const killPuts = 19

// TestKilled kills a run at several of its puts, over a directory and Azurite.
// The next run goes on with every object that is there.
func TestKilled(t *testing.T) {
	source := killFolder(t)
	for name, volumes := range killVolumes(t) {
		t.Run(name, func(t *testing.T) {
			for _, nth := range []int{2, 6, 13, killPuts} {
				volume := volumes()
				sealAndKill(t, source, volume, nth)
				s := openVolume(t, volume)
				mustGoOn(t, s, source)
			}
		})
	}
}

// TestKilledAndChanged changes the source between the two runs.
func TestKilledAndChanged(t *testing.T) {
	for name, volumes := range killVolumes(t) {
		t.Run(name, func(t *testing.T) {
			source, volume := killFolder(t), volumes()
			sealAndKill(t, source, volume, killPuts) // all is there but the manifest
			s := openVolume(t, volume)
			before := dataNames(objects(t, s))
			write(t, source+"/large/0", noise(1<<20, 90)) // same time, another size
			write(t, source+"/huge", noise(70<<20, 91))   // same size and time
			os.Remove(source + "/large/1")
			os.Rename(source+"/large/2", source+"/large/2b")
			write(t, source+"/small/new", []byte("new"))
			sealed := encrypt(t, s, source)
			if sealed.Resumed != len(before)-6 {
				t.Errorf("%d objects of %d were taken over, want all but those of 4 files", sealed.Resumed, len(before))
			}
			mustRoundTrip(t, s, source, sealed.Reference, false)
			after := objects(t, s)
			for _, name := range before {
				if after[name] == nil {
					t.Errorf("%s was removed: another run may be using it", name)
				}
			}
		})
	}
}

// TestKilledTwice goes on with what two runs left, in a volume that has epochs.
func TestKilledTwice(t *testing.T) {
	source, volume := killFolder(t), filepath.Join(t.TempDir(), "volume")
	os.Rename(source+"/huge", source+"-huge")
	s := openVolume(t, volume)
	first := encrypt(t, s, source)
	os.Rename(source+"-huge", source+"/huge")
	write(t, source+"/large/9", noise(2<<20, 9))
	sealAndKill(t, source, volume, 4)
	sealAndKill(t, source, volume, 4)
	left := len(dataNames(objects(t, s))) - first.NewObjects
	sealed := encrypt(t, s, source)
	if sealed.Epoch != 2 || sealed.Resumed != left || sealed.Resumed+sealed.NewObjects != 4 || sealed.ReusedFiles != first.Files {
		t.Errorf("%+v", sealed)
	}
	mustRoundTrip(t, s, source, sealed.Reference, false)
	mustHaveNothingOver(t, s)
}

// TestPendingIsNoEpoch puts a pending record in the place of a manifest, as a
// store could: it must not pass for the epoch.
func TestPendingIsNoEpoch(t *testing.T) {
	source, volume := killFolder(t), filepath.Join(t.TempDir(), "volume")
	sealAndKill(t, source, volume, killPuts)
	all := objects(t, openVolume(t, volume))
	tried := 0
	for name, data := range all {
		if !strings.HasPrefix(name, format.PendingPrefix) {
			continue
		}
		tried++
		relabelled := slices.Clone(data)
		relabelled[11], relabelled[56] = byte(format.KindManifest), 0
		for _, forged := range [][]byte{data, relabelled} {
			s := storeOf(t, all)
			s.Overwrite(format.ManifestName(1), forged)
			if _, err := decrypt(s, filepath.Join(t.TempDir(), "out"), nil); err == nil {
				t.Fatal("a pending record was taken for an epoch")
			}
		}
	}
	if tried == 0 {
		t.Fatal("there was no record to try")
	}
}

// TestHostilePending has records that are cut, changed and exchanged: they are
// of no use, and no harm.
func TestHostilePending(t *testing.T) {
	source := t.TempDir()
	for i := range 4 {
		write(t, fmt.Sprintf("%s/%d", source, i), noise(1<<20, uint64(i)))
	}
	volume := filepath.Join(t.TempDir(), "volume")
	sealAndKill(t, source, volume, 9)
	all := objects(t, openVolume(t, volume))
	var records []string
	for name := range all {
		if strings.HasPrefix(name, format.PendingPrefix) {
			records = append(records, name)
		}
	}
	slices.Sort(records)
	s := storeOf(t, all)
	s.Overwrite(records[0], all[records[0]][:100])
	changed := slices.Clone(all[records[1]])
	changed[len(changed)/2] ^= 1
	s.Overwrite(records[1], changed)
	s.Overwrite(records[2], all[records[3]])
	s.Overwrite(format.PendingPrefix+"x", nil)
	sealed := encrypt(t, s, source)
	if sealed.Resumed != 1 || sealed.NewObjects != 3 {
		t.Errorf("%+v: want the one good record used", sealed)
	}
	mustRoundTrip(t, s, source, sealed.Reference, false)
}

// killVolumes returns places for volumes, by the kind of store.
func killVolumes(t *testing.T) map[string]func() string {
	server := azurite.Start(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", server.ConnectionString())
	return map[string]func() string{
		"directory": func() string { return filepath.Join(t.TempDir(), "volume") },
		"Azurite":   server.NewURL,
	}
}

func openVolume(t *testing.T, volume string) prep.Store {
	t.Helper()
	s, err := store.Open(t.Context(), volume, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
