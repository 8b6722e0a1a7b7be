// Package kubernetes holds the manifests of package template against
// Kubernetes itself, in a module of its own: its types, read strictly, and a real
// API server's dry run. `make test-kubernetes` builds the server once.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// documents are the golden manifests' documents, by file and kind.
func documents(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../testdata/aks*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("golden manifests: %q, %v", files, err)
	}
	list := map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(text, []byte("\n---\n")) {
			list[filepath.Base(f)+" "+kindOf(t, document)] = document
		}
	}
	if len(list) != len(files)+1 { // the replicas have a service account too
		t.Fatalf("%d documents in %d files", len(list), len(files))
	}
	return list
}

func kindOf(t *testing.T, document []byte) string {
	t.Helper()
	var o struct{ Kind string }
	if err := yaml.Unmarshal(document, &o); err != nil {
		t.Fatal(err)
	}
	return o.Kind
}

// TestDecodesStrictly: every field is one of Kubernetes', and of its type.
func TestDecodesStrictly(t *testing.T) {
	into := map[string]any{"Pod": &core.Pod{}, "Job": &batch.Job{}, "ServiceAccount": &core.ServiceAccount{}}
	for name, document := range documents(t) {
		if err := yaml.UnmarshalStrict(document, into[kindOf(t, document)]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if yaml.UnmarshalStrict([]byte("spec:\n  containerz: []\n"), &core.Pod{}) == nil {
		t.Error("an unknown field was not seen")
	}
}

// paths are where the API has the kinds.
var paths = map[string]string{
	"Pod": "/api/v1/namespaces/default/pods/study", "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts/study",
	"Job": "/apis/batch/v1/namespaces/default/jobs/study",
}

// TestServerSideDryRun has a real API server validate and admit each document,
// as `kubectl apply --server-side --dry-run=server` does.
func TestServerSideDryRun(t *testing.T) {
	s := start(t)
	// What the controllers of a cluster make, which are not here.
	if status, said := s.send("POST", "/api/v1/namespaces/default/serviceaccounts", "application/json",
		[]byte(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}`)); status != http.StatusCreated {
		t.Fatalf("making the default service account: %d %s", status, said)
	}
	for name, document := range documents(t) {
		if status, said := s.apply(kindOf(t, document), document); status != http.StatusCreated {
			t.Errorf("%s: %d %s", name, status, said)
		}
		if kindOf(t, document) == "ServiceAccount" {
			continue
		}
		// What it answers, 422 or for a patch's own form 500, is Kubernetes' choice.
		for _, slip := range []struct{ from, to, said string }{
			{"mountPropagation:", "mountPropagatoin:", "mountPropagatoin: field not declared in schema"},
			{"mountPropagation: ", "mountPropagation: X", `mountPropagation: Unsupported value: \"XBidirectional\"`},
			{"restartPolicy: ", "restartPolicy: X", "spec.restartPolicy: "},
			{"cpu: ", "cpu: x", "quantities must match"},
		} {
			changed := bytes.Replace(document, []byte(slip.from), []byte(slip.to), 1)
			if status, said := s.apply(kindOf(t, document), changed); !bytes.Equal(changed, document) && (status < 400 || !strings.Contains(said, slip.said)) {
				t.Errorf("%s with %q: %d %s", name, slip.to, status, said)
			}
		}
	}
}

type server struct {
	t      *testing.T
	url    string
	roots  string // the file of its certificate
	client *http.Client
}

func (s server) apply(kind string, document []byte) (int, string) {
	return s.send("PATCH", paths[kind]+"?dryRun=All&fieldValidation=Strict&fieldManager=test", "application/apply-patch+yaml", document)
}

const token = "loopback-test-only"

func (s server) send(method, path, contentType string, body []byte) (int, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	return response.StatusCode, fmt.Sprint(string(said), err)
}

// start runs etcd and the API server on loopback until the test's end.
func start(t *testing.T) server {
	t.Helper()
	binary, err := filepath.Abs("../../../.cache/kube-apiserver")
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		t.Fatalf("%v: run `make test-kubernetes`, which builds it", err)
	}
	dir := t.TempDir()
	etcd, peer, port := address(t), address(t), address(t)
	run(t, dir, "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", "http://"+etcd, "--advertise-client-urls", "http://"+etcd,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	write(t, filepath.Join(dir, "tokens.csv"), []byte(token+",admin,admin,system:masters\n"))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serviceKey := filepath.Join(dir, "service.key")
	write(t, serviceKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	_, number, _ := strings.Cut(port, ":")
	ended := run(t, dir, binary, "--etcd-servers", "http://"+etcd, "--bind-address", "127.0.0.1", "--secure-port", number, "--cert-dir", dir,
		"--token-auth-file", filepath.Join(dir, "tokens.csv"), "--authorization-mode", "AlwaysAllow", "--service-cluster-ip-range", "10.0.0.0/24",
		"--service-account-issuer", "https://cluster.example", "--service-account-key-file", serviceKey, "--service-account-signing-key-file", serviceKey,
		"--allow-privileged=true", "--watch-cache=false", "--endpoint-reconciler-type=none")
	return ready(t, dir, "https://"+port, ended)
}

// ready waits for the server to say so.
func ready(t *testing.T, dir, url string, ended <-chan struct{}) server {
	t.Helper()
	s := server{t: t, url: url, roots: filepath.Join(dir, "apiserver.crt")}
	for said := ""; ; {
		if roots, err := os.ReadFile(s.roots); err == nil {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(roots)
			s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
			var status int
			if status, said = s.send("GET", "/readyz", "", nil); status == http.StatusOK {
				return s
			}
		}
		select {
		case <-ended:
			log, _ := os.ReadFile(filepath.Join(dir, "kube-apiserver.log"))
			t.Fatalf("the API server ended:\n%s", log[max(0, len(log)-4096):])
		case <-t.Context().Done():
			t.Fatalf("the API server is not ready: %s", said)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// run starts a program that is killed at the test's end.
func run(t *testing.T, dir, program string, args ...string) <-chan struct{} {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run `make test-kubernetes` (apt-get install etcd-server)", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); log.Close(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	return ended
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// address is one of loopback that is free.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
