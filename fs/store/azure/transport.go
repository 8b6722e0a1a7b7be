package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"cloister/internal/fault"
)

// maxIdleConns keeps the connections of a reader that fetches many ranges at
// once; two a host, net/http's default, would make a new one for most requests.
const maxIdleConns = 64

// newClient makes the HTTP client that a store uses unless it is given one. It
// goes through the proxy of HTTPS_PROXY and trusts the system's certificates
// and those in caFile, or, where that is "", in SSL_CERT_FILE: crypto/x509
// looks at that variable by itself, but not on Windows and macOS.
func newClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	file := caFile
	if file == "" {
		file = os.Getenv("SSL_CERT_FILE")
	}
	if file != "" {
		pool, err := caPool(file)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns:        maxIdleConns,
			MaxIdleConnsPerHost: maxIdleConns,
			IdleConnTimeout:     90 * time.Second,
			// For a server or proxy that does not know Expect; see retryUpload.
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true, // ciphertext does not compress
		},
		// A blob service does not redirect. Following one would hand the
		// request to whomever the answer names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func caPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "name a readable file of PEM certificates", "reading CA certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fault.Errorf(fault.Usage, "name a file of PEM certificates", "reading CA certificates: %s holds none", file)
	}
	return pool, nil
}

// watch ends an attempt that makes no progress: unless a byte is sent or
// received for the length of a stall, its context is cancelled with errStalled.
type watch struct {
	timer *time.Timer
	stall time.Duration
}

type watchKey struct{}

// watched returns a context for one attempt, and the function that ends the
// watch over it.
func watched(ctx context.Context, stall time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{stall: stall, timer: time.AfterFunc(stall, func() { cancel(errStalled) })}
	return context.WithValue(ctx, watchKey{}, w), func() {
		w.timer.Stop()
		cancel(context.Canceled)
	}
}

// progress grants the attempt another stall's length. A timer that has fired
// already has cancelled the attempt for good.
func (w *watch) progress(n int) {
	if n > 0 {
		w.timer.Reset(w.stall)
	}
}

// meter is a transport that tells the watch in a request's context of every
// byte that moves, in either direction.
type meter struct{ client *http.Client }

func (m meter) Do(req *http.Request) (*http.Response, error) {
	w, ok := req.Context().Value(watchKey{}).(*watch)
	if !ok {
		return m.client.Do(req)
	}
	if req.Body != nil && req.Body != http.NoBody {
		req = req.WithContext(req.Context()) // a copy: the caller's body stays
		req.Body = meteredBody{req.Body, w}
	}
	resp, err := m.client.Do(req)
	if err == nil {
		w.progress(1)
		resp.Body = meteredBody{resp.Body, w}
	}
	return resp, err
}

type meteredBody struct {
	io.ReadCloser
	w *watch
}

func (b meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.progress(n)
	return n, err
}
