package azurite

import (
	"crypto/tls"
	"net/http"
)

// insecureLoopback is for the one request that asks whether a server on a
// loopback port is up yet; it carries nothing and its answer is not used.
func insecureLoopback() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}
