package azure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
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
	"sync/atomic"
	"testing"
	"time"

	"cloister/internal/azurite"
	"cloister/internal/fault"
)

// ca is a certificate authority and a server's certificate by it, as PEM files.
type ca struct{ caFile, certFile, keyFile string }

func newCA(t *testing.T, host string) ca {
	t.Helper()
	caKey, key := newKey(t), newKey(t)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		server.IPAddresses = []net.IP{ip}
	} else {
		server.DNSNames = []string{host}
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return ca{
		caFile:   writePEM(t, "ca.pem", "CERTIFICATE", sign(t, authority, authority, &caKey.PublicKey, caKey)),
		certFile: writePEM(t, "cert.pem", "CERTIFICATE", sign(t, server, authority, &key.PublicKey, caKey)),
		keyFile:  writePEM(t, "key.pem", "PRIVATE KEY", keyDER),
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serveTLS serves a handler with the CA's certificate, quietly.
func serveTLS(t *testing.T, c ca, h http.Handler) *httptest.Server {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Whoever cannot show a certificate that is trusted gets no request, and the
// user an answer at once.
func TestUntrustedServers(t *testing.T) {
	asked := atomic.Int32{}
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	right, wrongName := newCA(t, "127.0.0.1"), newCA(t, "elsewhere.example.org")
	plain := httptest.NewServer(h)
	t.Cleanup(plain.Close)
	for name, c := range map[string]struct{ endpoint, caFile, want string }{
		"an unknown CA":      {serveTLS(t, right, h).URL, wrongName.caFile, "unknown authority"},
		"another name":       {serveTLS(t, wrongName, h).URL, wrongName.caFile, "127.0.0.1"},
		"not TLS at all":     {"https" + strings.TrimPrefix(plain.URL, "http"), right.caFile, "HTTPS client"},
		"an unknown default": {serveTLS(t, right, h).URL, "", "unknown authority"},
	} {
		s, err := Open(t.Context(), c.endpoint+"/acct/cont/vol"+testSAS, Options{CAFile: c.caFile, Patience: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for call, err := range calls(t.Context(), s) {
			if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), c.want) || !strings.Contains(strings.Join(fault.Hints(err), ""), "SSL_CERT_FILE") {
				t.Errorf("%s, %s: %v: %v %q", name, call, fault.KindOf(err), err, fault.Hints(err))
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests reached a server that is not trusted", n)
	}
}

func TestCAFiles(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{filepath.Join(t.TempDir(), "absent"): "absent", empty: "holds none"} {
		_, err := Open(t.Context(), "https://acct.blob.core.windows.net/cont/vol"+testSAS, Options{CAFile: file})
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("CA file %s: %v", file, err)
		}
	}
}

// Variables by which TestBehindAProxy knows that it is its own child, which
// has HTTPS_PROXY set as a user would: net/http reads it once a process.
const (
	childURL = "CLOISTER_TEST_PROXIED_URL"
	childCA  = "CLOISTER_TEST_PROXIED_CA"
)

// The real name of a real account, behind a proxy, with a CA of one's own: by
// SSL_CERT_FILE, and by the option.
func TestBehindAProxy(t *testing.T) {
	if url := os.Getenv(childURL); url != "" {
		behindAProxy(t, url, os.Getenv(childCA))
		return
	}
	const host = azurite.Account + ".blob.core.windows.net"
	made := open(t, Options{})
	target, err := url.Parse(azurite.Start(t).Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := newCA(t, host)
	front := serveTLS(t, c, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = host // Azurite takes the account from it
	}})
	var connects atomic.Int32
	tunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host+":443" {
			t.Errorf("the proxy is asked for %s %s", r.Method, r.Host)
			return
		}
		connects.Add(1)
		splice(t, w, front.Listener.Addr().String())
	}))
	t.Cleanup(tunnel.Close)
	location := "https://" + host + "/" + made.place.container + "/proxied"
	query := signed(t, made.place.container, everything)
	for name, env := range map[string][]string{
		"SSL_CERT_FILE": {"SSL_CERT_FILE=" + c.caFile},
		"the option":    {childCA + "=" + c.caFile},
	} {
		connects.Store(0)
		cmd := exec.Command(os.Args[0], "-test.run=^TestBehindAProxy$", "-test.v")
		cmd.Env = append(os.Environ(), "HTTPS_PROXY="+tunnel.URL, "https_proxy=", "NO_PROXY=", "no_proxy=", connectionVariable+"=",
			childURL+"="+location+strings.ReplaceAll(name, " ", "-")+"?"+query)
		cmd.Env = append(cmd.Env, env...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestBehindAProxy") || connects.Load() == 0 {
			t.Errorf("by %s: %v, %d connections through the proxy\n%s", name, err, connects.Load(), out)
		}
	}
}

func behindAProxy(t *testing.T, url, caFile string) {
	s := openURL(t, url, Options{CAFile: caFile})
	data := pattern(100_000)
	if err := s.Put(t.Context(), "d/x", data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if err := s.Get(t.Context(), "d/x", 0, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get: %v", err)
	}
}

// splice answers a CONNECT and joins the connection to addr.
func splice(t *testing.T, w http.ResponseWriter, addr string) {
	to, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer to.Close()
	w.WriteHeader(http.StatusOK)
	from, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer from.Close()
	go io.Copy(to, buffered)
	io.Copy(from, to)
}
