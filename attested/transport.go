package attested

import (
	"fmt"
	"net"
	"net/http"

	"cloister/internal/fault"
)

// Transport sends HTTP requests to clean rooms. It makes no other connection:
// no proxy of the environment, and only https addresses.
type Transport struct{ inner *http.Transport }

// Transport returns a round tripper that speaks HTTP/1.1, or HTTP/2 alone where
// http2 is set, which gRPC needs. Connections are kept and used again.
func (c *Client) Transport(http2 bool) *Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	// What the transport gets from DialContext is TLS already.
	protocols.SetUnencryptedHTTP2(http2)
	return &Transport{&http.Transport{DialContext: c.DialContext, Protocols: protocols, MaxIdleConnsPerHost: 64, DisableCompression: true}}
}

// RoundTrip sends a request once the other end of its connection is verified.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fault.Errorf(fault.Usage, "write it as https://HOST:PORT/…", "%q is not an https address", r.URL.Redacted())
	}
	under := r.Clone(r.Context())
	if under.Host == "" {
		under.Host = r.URL.Host
	}
	under.URL.Scheme = "http"
	if under.URL.Port() == "" {
		under.URL.Host = net.JoinHostPort(under.URL.Hostname(), "443")
	}
	resp, err := t.inner.RoundTrip(under)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Redacted(), err)
	}
	resp.Request = r
	return resp, nil
}

// CloseIdleConnections closes what is kept.
func (t *Transport) CloseIdleConnections() { t.inner.CloseIdleConnections() }
