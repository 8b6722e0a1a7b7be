package vault

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

// headers puts in what every answer of the service of that kind has beside its
// body, after the recordings. Their values are of no use to a client but for
// x-ms-request-id, which is what one quotes to the operator.
func (k Kind) headers(h http.Header) {
	h.Set("Cache-Control", "no-cache")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", requestID())
	if k == ManagedHSM {
		h.Set("Content-Security-Policy", "default-src 'self'")
		h.Set("X-Frame-Options", "SAMEORIGIN")
		h.Set("x-ms-server-latency", "0")
		return
	}
	h.Set("Expires", "-1")
	h.Set("Pragma", "no-cache")
	h.Set("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;")
	h.Set("x-ms-keyvault-region", "simulated")
	h.Set("x-ms-keyvault-service-version", "0.0.0.0")
}

func requestID() string {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // never fails (crypto/rand)
	id[6], id[8] = 0x40|id[6]&0xf, 0x80|id[8]&0x3f
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
