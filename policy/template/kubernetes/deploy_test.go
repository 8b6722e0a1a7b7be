package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDeploy has `cloister deploy`'s client of Kubernetes make, show and delete the
// manifests at a real API server: TestAPIServer of prep/deploy, which is in the
// module above.
func TestDeploy(t *testing.T) {
	s := start(t)
	if status, said := s.send("POST", "/api/v1/namespaces/default/serviceaccounts", "application/json",
		[]byte(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}`)); status != 201 {
		t.Fatalf("making the default service account: %d %s", status, said)
	}
	config := filepath.Join(t.TempDir(), "config")
	write(t, config, []byte("current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"+
		"clusters: [{name: a, cluster: {server: "+s.url+", certificate-authority: "+s.roots+"}}]\nusers: [{name: a, user: {token: "+token+"}}]\n"))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-tags", "kubernetes", "-run", "^TestAPIServer$", "./prep/deploy")
	cmd.Dir = filepath.Join("..", "..", "..")
	cmd.Env = append(os.Environ(), "CLOISTER_KUBECONFIG="+config, "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
