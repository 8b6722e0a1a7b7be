//go:build !production

package azurekeys_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloister/internal/localcloud"
	"cloister/internal/localcloud/platform"
)

// asked is the cloud's own log from an offset on, as SERVICE METHOD ACTION with
// how often.
func (w *world) asked(t testing.TB, from int64) map[string]int {
	t.Helper()
	text, err := os.ReadFile(w.requestLog())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for line := range strings.Lines(string(text[from:])) {
		var e struct{ Service, Method, Path string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		action := e.Path[strings.LastIndex(e.Path, "/")+1:]
		if strings.HasPrefix(e.Path, "/secrets/") {
			action = "secret"
		}
		got[e.Service+" "+e.Method+" "+action]++
	}
	return got
}

func (w *world) requestLog() string {
	return filepath.Join(filepath.Dir(w.cloud.Endpoints().CA), localcloud.RequestsFile)
}

func (w *world) logSize(t testing.TB) int64 {
	t.Helper()
	info, err := os.Stat(w.requestLog())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// awaited are the requests whose answers the keys wait for, and beside those
// that they do not wait for in turn; see package enclave.
func awaited(asked map[string]int) (awaited, beside int) {
	for what, n := range asked {
		if strings.HasPrefix(what, "vault ") || strings.HasPrefix(what, "hsm ") || what == "attestation POST SevSnpVm" {
			awaited += n
		} else {
			beside += n
		}
	}
	return awaited, beside
}

// TestWhatAStartCosts: three requests and three appends until the first
// volume's keys are in hand, and a fetch and a release for each one more.
func TestWhatAStartCosts(t *testing.T) {
	for _, volumes := range []int{1, 3} {
		w := newWorld(t, platform.GuestConfig{})
		w.more(volumes)
		s := w.source(t, w.as(t, "runtime"), requirements)
		from := w.logSize(t)
		l, mounted, err := w.open(t, s)
		if err != nil || len(mounted) != volumes {
			t.Fatal(len(mounted), err)
		}
		asked := w.asked(t, from)
		want := map[string]int{
			"vault GET secret": volumes, "attestation POST SevSnpVm": 1, "hsm POST release": volumes,
			// Beside them: the service's keys, and signing in once for each kind of vault.
			"attestation GET certs": 1, "authority GET openid-configuration": 1, "authority POST token": 2,
		}
		if !maps.Equal(asked, want) {
			t.Errorf("%d volumes: asked %v, want %v", volumes, asked, want)
		}
		if n, _ := awaited(asked); n != 2*volumes+1 || l.toKeys != 3 {
			t.Errorf("%d volumes: %d requests and %d appends to the keys", volumes, n, l.toKeys)
		}
	}
}

// more has the plan open the same volume under several names.
func (w *world) more(volumes int) {
	for i := 1; i < volumes; i++ {
		v := w.plan.Data[0]
		v.Name += string(rune('0' + i))
		w.plan.Data = append(w.plan.Data, v)
	}
}

// BenchmarkStart is from a new key source to the keys in hand and the
// application's start, against a cloud on loopback and a record in memory.
func BenchmarkStart(b *testing.B) {
	for _, volumes := range []int{1, 8} {
		b.Run(map[int]string{1: "1 volume", 8: "8 volumes"}[volumes], func(b *testing.B) {
			w := newWorld(b, platform.GuestConfig{})
			w.more(volumes)
			id := w.as(b, "runtime")
			var waited, beside, appends int
			var spent time.Duration
			for b.Loop() {
				from, began := w.logSize(b), time.Now()
				l, _, err := w.open(b, w.source(b, id, requirements))
				if err != nil {
					b.Fatal(err)
				}
				spent += l.keysAt.Sub(began)
				n, m := awaited(w.asked(b, from))
				waited, beside, appends = waited+n, beside+m, appends+l.toKeys
			}
			n := float64(b.N)
			b.ReportMetric(float64(waited)/n, "requests/op")
			b.ReportMetric(float64(beside)/n, "beside/op")
			b.ReportMetric(float64(appends)/n, "appends-to-keys/op")
			b.ReportMetric(spent.Seconds()*1000/n, "ms-to-keys/op")
		})
	}
}
