//go:build linux

package mount_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloister/fs/internal/voltest"
	"cloister/fs/store"
	"cloister/internal/azurite"
)

// relay stands between a mount and Azurite.
type relay struct {
	*httptest.Server
	forward *httputil.ReverseProxy
	data    atomic.Int32 // requests for data objects
	struck  atomic.Int32 // requests that a mood took
	mood    atomic.Pointer[http.HandlerFunc]
}

var (
	// shut drops connections without an answer.
	shut http.HandlerFunc = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	// silent never answers.
	silent http.HandlerFunc = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
)

func newRelay(t *testing.T, endpoint string) *relay {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{forward: httputil.NewSingleHostReverseProxy(target)}
	r.forward.FlushInterval = -1
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.Contains(req.URL.Path, "/data/") {
		r.data.Add(1)
	}
	if mood := r.mood.Load(); mood != nil {
		r.struck.Add(1)
		(*mood)(w, req)
		return
	}
	r.forward.ServeHTTP(w, req)
}

// newRelayed is a site whose volume is in Azurite, behind a relay.
func newRelayed(t *testing.T, model *voltest.Volume) (*site, *relay) {
	t.Helper()
	server := azurite.Start(t)
	r := newRelay(t, server.Endpoint)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.ReplaceAll(server.ConnectionString(), server.Endpoint, r.URL))
	s := newSite(t, uint32(os.Geteuid()), model)
	s.upload(t, strings.Replace(server.NewURL(), server.Endpoint, r.URL, 1), store.Options{})
	r.data.Store(0)
	return s, r
}

// upload puts the site's volume, in its next epoch, where it will be mounted
// from.
func (s *site) upload(t *testing.T, location string, o store.Options) {
	t.Helper()
	o.Create = true
	blobs, err := store.Open(t.Context(), location, o)
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	s.model.Epoch++
	s.volume, s.reference = location, s.model.Write(t, blobs)
}

// several is a volume of files that have objects of their own.
func several(n, size int) (*voltest.Volume, [][]byte) {
	v := voltest.New()
	data := make([][]byte, n)
	for i := range data {
		data[i] = content(size, uint64(i))
		v.File(fmt.Sprint(i), data[i])
	}
	return v, data
}

func (s *site) reads(t *testing.T, i int, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(s.dir, fmt.Sprint(i))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("file %d: %v", i, err)
	}
}

// TestStoreAway: a store that is away for less than --patience delays reads and
// fails none; away for good it fails them with EIO, within twice that, and the
// mount answers again when the store does.
func TestStoreAway(t *testing.T) {
	const patience = 4 * time.Second
	// The promise is of twice patience; the rest is for a busy machine.
	const bound = 2*patience + 10*time.Second
	model, data := several(8, 1<<20)
	s, r := newRelayed(t, model)
	s.global = []string{"--patience", patience.String()}
	d := s.mount(t)
	next := 0
	for name, mood := range map[string]*http.HandlerFunc{"drops connections": &shut, "is silent": &silent} {
		t.Run(name, func(t *testing.T) {
			r.struck.Store(0)
			r.mood.Store(mood)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.reads(t, next, data[next])
			}()
			until(t, "the mount to ask again", func() bool { return r.struck.Load() >= 2 })
			r.mood.Store(nil)
			<-done
			next++

			r.mood.Store(mood)
			for range 2 { // now it knows
				start := time.Now()
				if _, err := os.ReadFile(filepath.Join(s.dir, fmt.Sprint(next))); !errors.Is(err, syscall.EIO) {
					t.Errorf("away for good: %v", err)
				}
				if took := time.Since(start); took > bound {
					t.Errorf("EIO came after %v, the promise is %v", took, 2*patience)
				}
			}
			if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != len(data) {
				t.Errorf("the tree, which needs no store: %d entries, %v", len(entries), err)
			}
			r.mood.Store(nil)
			s.reads(t, next, data[next])
			s.reads(t, next+1, data[next+1])
			next += 2
		})
	}
	if !strings.Contains(d.stderr.String(), "gave up after") {
		t.Errorf("it said: %s", d.stderr)
	}
	d.stop(s)
}

// TestCacheDir: what one mount has fetched, the next one need not ask for, and
// what befalls the directory costs requests only.
func TestCacheDir(t *testing.T) {
	// 3 MiB sealed, without padding (FORMAT.md, section 4): nothing is ever
	// fetched that is not also read, so what a mount asks for does not depend
	// on how far it came with reading ahead.
	const size = 192*(16<<10-16) - 40
	model, data := several(4, size)
	s, r := newRelayed(t, model)
	for _, o := range model.Objects() {
		if o.SealedLen != 3<<20 {
			t.Fatalf("an object has %d bytes: the test tests nothing", o.SealedLen)
		}
	}
	cache := filepath.Join(t.TempDir(), "cache")
	mount := func(args ...string) *daemon {
		r.data.Store(0)
		return s.mount(t, append([]string{"--cache-dir", cache, "--cache-size", "256MiB"}, args...)...)
	}
	read := func() {
		t.Helper()
		for i, want := range data {
			s.reads(t, i, want)
		}
	}
	look := func(what string, d *daemon) int32 {
		t.Helper()
		read()
		if said := d.stderr.String(); said != "" {
			t.Errorf("%s: it said: %s", what, said)
		}
		d.stop(s)
		return r.data.Load()
	}
	if n := look("first", mount()); n == 0 {
		t.Fatal("the first mount made no data request: the test tests nothing")
	}
	if n := look("second", mount("--memory", "4MiB")); n != 0 {
		t.Errorf("the second mount made %d data requests", n)
	}
	damaged := 0
	err := filepath.WalkDir(cache, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			damaged++
			err = garble(path)
		}
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatalf("damaged %d files of the cache: %v", damaged, err)
	}
	if n := look("damaged", mount()); n == 0 {
		t.Error("a damaged cache was served from")
	}
	if n := look("mended", mount()); n != 0 {
		t.Errorf("the damage is still there: %d data requests", n)
	}

	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	d := mount()
	go os.ReadFile(filepath.Join(s.dir, "0"))
	until(t, "it to fetch", func() bool { return r.data.Load() > 0 })
	d.signal(syscall.SIGKILL)
	d.wait()
	look("after a kill", mount())

	cache = "/proc/none"
	d = mount()
	read()
	if said := d.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "reads go on without it") {
		t.Errorf("without a usable directory it said: %s", said)
	}
	d.stop(s)
}

// garble changes every hundredth byte of a file.
func garble(path string) error {
	p, err := os.ReadFile(path)
	for i := 0; i < len(p); i += 100 {
		p[i] ^= 0x55
	}
	return errors.Join(err, os.WriteFile(path, p, 0o600))
}

// TestSharedCacheDir: two mounts of one volume at once, over one directory.
func TestSharedCacheDir(t *testing.T) {
	s, _ := newRelayed(t, fixture())
	other := *s
	other.dir += "2"
	if err := os.Mkdir(other.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	var wg sync.WaitGroup
	for _, s := range []*site{s, &other} {
		d := s.mount(t, "--cache-dir", cache, "--cache-size", "128MiB", "--memory", "4MiB")
		defer d.stop(s)
		wg.Go(func() { s.look(t) })
	}
	wg.Wait()
}

// TestLogNames: the names of damaged files are logged where the operator wants
// them, once for each damage. (That they are not otherwise is TestFlippedBit.)
func TestLogNames(t *testing.T) {
	model := voltest.New()
	model.Dir("a")
	model.Dir("a/dir")
	model.File("a/dir/damaged \xff\n", content(100, 1))
	model.File("b", content(100, 2))
	s := newSite(t, uint32(os.Geteuid()), model)
	flip(t, s, 0, 0)
	d := s.mount(t, "--log-names")
	path := filepath.Join(s.dir, "a/dir/damaged \xff\n")
	for range 3 {
		if _, err := os.ReadFile(path); !errors.Is(err, syscall.EIO) {
			t.Errorf("reading it: %v", err)
		}
	}
	said := d.stderr.String()
	if strings.Count(said, "\n") != 1 || !strings.Contains(said, `file="/a/dir/damaged \xff\n"`) ||
		!strings.Contains(said, fmt.Sprintf("segment 0 of object %s", model.Objects()[0].ID)) {
		t.Errorf("it said: %s", said)
	}
	d.stop(s)
}

func TestStoreFlags(t *testing.T) {
	s := newSite(t, uint32(os.Geteuid()), fixture())
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"--cache-size", "1GiB"}, "name the directory with --cache-dir"},
		{[]string{"--cache-dir", s.key, "--cache-size", "1GiB"}, "hint: name a directory"},
		{[]string{"--cache-dir", s.dir + "x", "--cache-size", "1MiB"}, "at least 128MiB"},
		{[]string{"--cache-dir", s.dir + "x", "--cache-size", "lots"}, "--cache-size: size"},
		{[]string{"--cache-dir", s.dir + "x", "--output"}, "--output mounts writable"},
	} {
		out, err := s.command(append(c.args, s.volume, s.dir)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), c.text) {
			t.Errorf("%q: %v, want exit code 2 and %q:\n%s", c.args, err, c.text, out)
		}
	}
	s.global = []string{"--patience", "-1s"}
	if out, err := s.command(s.volume, s.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "is not a time to wait") {
		t.Errorf("%v: %v\n%s", s.global, err, out)
	}
	if _, err := os.Stat(s.dir + "x"); err == nil {
		t.Error("a refused command made the directory of the cache")
	}
}

// identity issues tokens that Azurite takes, for a few seconds each.
type identity struct {
	*httptest.Server
	mu     sync.Mutex // guards issued
	issued []token
}

type token struct {
	text    string
	expires time.Time
}

const tokenLife = 3 * time.Second

func newIdentity(t *testing.T) *identity {
	i := &identity{}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now()
	expires := now.Add(tokenLife)
	claims := fmt.Sprintf(`{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/","iat":%d,"nbf":%d,"exp":%d}`,
		now.Unix()-10, now.Unix()-10, expires.Unix())
	text := part(`{"alg":"RS256","typ":"JWT"}`) + "." + part(claims) + "." + part("signature")
	i.mu.Lock()
	i.issued = append(i.issued, token{text, expires})
	i.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]string{"access_token": text, "expires_on": fmt.Sprint(expires.Unix()),
		"resource": r.URL.Query().Get("resource"), "token_type": "Bearer"})
}

func (i *identity) last() token {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued[len(i.issued)-1]
}

// TestTokenExpires: a mount outlives the token that it was opened with.
func TestTokenExpires(t *testing.T) {
	certificate := selfSigned(t)
	server := azurite.StartTLS(t, certificate)
	i := newIdentity(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "")
	t.Setenv("IDENTITY_ENDPOINT", i.URL)
	t.Setenv("IDENTITY_HEADER", "header")
	t.Setenv("SSL_CERT_FILE", certificate.CertFile)
	model, data := several(3, 1<<20)
	s := newSite(t, uint32(os.Geteuid()), model)
	s.upload(t, server.NewURL(), store.Options{})
	d := s.mount(t)
	s.reads(t, 0, data[0])
	for n := 1; n <= 2; n++ {
		old := i.last()
		until(t, "a token to expire", func() bool { return time.Now().After(old.expires.Add(time.Second)) })
		if status := ask(t, certificate.CertFile, s.volume, old); status != http.StatusForbidden && status != http.StatusUnauthorized {
			t.Fatalf("an expired token is answered with %d: the test tests nothing", status)
		}
		s.reads(t, n, data[n])
		if i.last() == old {
			t.Error("the file was read without a new token")
		}
	}
	if said := d.stderr.String(); said != "" {
		t.Errorf("it said: %s", said)
	}
	d.stop(s)
}

// ask makes a request with a token and returns its status.
func ask(t *testing.T, caFile, volume string, tk token) int {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, volume+"/manifest/0000000000000002", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tk.text)
	req.Header.Set("x-ms-version", "2021-08-06")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// selfSigned makes a certificate for the loopback address.
func selfSigned(t *testing.T) azurite.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := azurite.TLS{CertFile: filepath.Join(t.TempDir(), "cert.pem"), KeyFile: filepath.Join(t.TempDir(), "key.pem")}
	err = errors.Join(
		os.WriteFile(files.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return files
}
