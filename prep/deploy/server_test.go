//go:build kubernetes

package deploy

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cloister/internal/fault"
)

// TestAPIServer is run by the test of policy/template/kubernetes, which starts a
// real API server and says in CLOISTER_KUBECONFIG where: `make test-kubernetes`. It
// has no nodes and no controllers: pods stay pending, jobs have none.
func TestAPIServer(t *testing.T) {
	file := os.Getenv("CLOISTER_KUBECONFIG")
	if file == "" {
		t.Fatal("there is no CLOISTER_KUBECONFIG: run `make test-kubernetes`")
	}
	c, err := OpenCluster(file, "", "")
	if err != nil {
		t.Fatal(err)
	}
	transport := c.client.Transport
	for name, want := range map[string]string{"aks.yaml": "study pending", "aks_distributed.yaml": "study pending", "aks_replicas.yaml": "study there, study pending"} {
		r, err := InKubernetes(c, golden(t, name))
		if err != nil {
			t.Fatal(err)
		}
		r.Pause = 10 * time.Millisecond
		for _, changed := range []bool{true, false} {
			// Nothing ever runs there: after so many requests it has looked again.
			ctx, cancel := context.WithCancel(t.Context())
			requests := 0
			c.client.Transport = &faulty{do: func(r *http.Request) (*http.Response, error) {
				if requests++; requests == 20 {
					cancel()
				}
				return transport.RoundTrip(r)
			}}
			units, err := r.Up(ctx)
			c.client.Transport = transport
			if !errors.Is(err, context.Canceled) || states(units) != want {
				t.Errorf("%s: %+v, %v", name, units, err)
			}
			for _, u := range units {
				if u.Changed != changed {
					t.Errorf("%s: %s changed: %t, want %t", name, u.Name, u.Changed, changed)
				}
			}
		}
		var said bytes.Buffer
		if err := r.Logs(t.Context(), "", 0, &said); err != nil || said.Len() != 0 {
			t.Errorf("%s: logs %q, %v", name, &said, err)
		}
		for range 2 {
			if units, err := r.Down(t.Context(), false); err != nil || strings.Trim(strings.ReplaceAll(states(units), "study missing", ""), ", ") != "" {
				t.Errorf("%s: %+v, %v", name, units, err)
			}
		}
	}
	other, err := OpenCluster(file, "", "nowhere")
	if err != nil {
		t.Fatal(err)
	}
	r, err := InKubernetes(other, golden(t, "aks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Up(t.Context())
	wantFault(t, err, fault.NotFound, "making the pod nowhere/study", "create namespace nowhere")
}
