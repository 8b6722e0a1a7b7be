// Package azurite runs Azurite, the emulator of Azure's blob service, for the
// tests and the benchmarks: a real server of the wire protocol, in memory, on a
// free loopback port.
//
// Life of a server: Launch looks for the installation beside this package
// (npm ci, from the lock file here), starts it, and returns when
// it answers; Close ends it, and so does the end of the process
// that launched it (on Linux, by the kernel). Tests call Start, which launches
// one server for the whole test process.
package azurite

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"cloister/internal/fault"
)

// Account and Key are the credentials that every Azurite knows. They are
// published with it and protect nothing.
// https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// startTimeout is how long a server may take to answer. It needs 2 to 4 s on
// an idle machine.
const startTimeout = 60 * time.Second

// Server is a running Azurite.
type Server struct {
	// Endpoint is where the blob service listens: scheme, address and port.
	Endpoint string

	cmd  *exec.Cmd
	said bytes.Buffer  // its output, to be read once done is closed
	done chan struct{} // closed when the process has ended
}

// TLS is a certificate and its key, as PEM files. With it Azurite serves https
// and accepts bearer tokens, whose signatures it does not check.
type TLS struct{ CertFile, KeyFile string }

// URL returns the location of a volume: the blob service's URL of a container
// and a prefix in it, in Azurite's path style.
func (s *Server) URL(container, prefix string) string {
	return s.Endpoint + "/" + Account + "/" + container + "/" + prefix
}

// NewURL returns the location of a volume in a container nobody has used.
func (s *Server) NewURL() string {
	return s.URL("c"+strings.ToLower(rand.Text()), "volume")
}

// ConnectionString returns what AZURE_STORAGE_CONNECTION_STRING must be for
// this server.
func (s *Server) ConnectionString() string {
	scheme, _, _ := strings.Cut(s.Endpoint, ":")
	return fmt.Sprintf("DefaultEndpointsProtocol=%s;AccountName=%s;AccountKey=%s;BlobEndpoint=%s/%s;",
		scheme, Account, Key, s.Endpoint, Account)
}

// Launch starts a server; ctx bounds the wait until it answers, not its life.
// tls is nil for plain http. Flags are added to Azurite's command line: with
// --location DIR it keeps blobs in files there.
func Launch(ctx context.Context, tls *TLS, flags ...string) (*Server, error) {
	script, err := installed()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for try := 1; ; try++ {
		s, err := launch(ctx, script, tls, flags)
		// Somebody may have taken the port since it was found free.
		if err == nil || try == 3 || ctx.Err() != nil {
			return s, err
		}
	}
}

// Close ends the server and waits until it has ended.
func (s *Server) Close() {
	s.cmd.Process.Kill()
	<-s.done
}

func launch(ctx context.Context, script string, tls *TLS, flags []string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	scheme := "http"
	args := []string{script, "--blobHost", "127.0.0.1", "--blobPort", port, "--disableTelemetry", "--silent", "--skipApiVersionCheck"}
	if !slices.Contains(flags, "--location") {
		args = append(args, "--inMemoryPersistence")
	}
	if tls != nil {
		scheme = "https"
		args = append(args, "--oauth", "basic", "--cert", tls.CertFile, "--key", tls.KeyFile)
	}
	s := &Server{
		Endpoint: scheme + "://127.0.0.1:" + port,
		cmd:      exec.Command("node", slices.Concat(args, flags)...),
		done:     make(chan struct{}),
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = os.TempDir(), &s.said, &s.said
	dieWithParent(s.cmd)
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that made it ends, so the
		// thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.cmd.Wait()
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		return fault.Errorf(fault.NotFound, "install Node.js 20 or newer", "starting Azurite: %w", err)
	}
	if err := s.wait(ctx); err != nil {
		s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("starting Azurite: %w: it said %q", err, s.said.String())
	}
	return nil
}

// wait returns when the port answers with Azurite's name: another program that
// took the port would answer too.
func (s *Server) wait(ctx context.Context) error {
	client := &http.Client{Transport: insecureLoopback(), Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for {
		resp, err := client.Get(s.Endpoint + "/" + Account)
		if err == nil {
			resp.Body.Close()
			if strings.HasPrefix(resp.Header.Get("Server"), "Azurite") {
				return nil
			}
			return errors.New("another program answers on its port")
		}
		select {
		case <-s.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// installed returns Azurite's program for the blob service, in the module that
// the working directory is in.
func installed() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", fault.Errorf(fault.NotFound, "run this inside Cloister's source tree", "looking for Azurite: no go.mod here or above")
		}
		dir = filepath.Dir(dir)
	}
	script := filepath.Join(dir, "internal/azurite/node_modules/azurite/dist/src/blob/main.js")
	if _, err := os.Stat(script); err != nil {
		return "", fault.Errorf(fault.NotFound, "install it: make test-setup", "Azurite is not installed: %w", err)
	}
	return script, nil
}
