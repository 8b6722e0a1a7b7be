package hostcerts

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-sev-guest/verify/testdata"

	"cloister/enclave/snp"
	"cloister/internal/fault"
)

// says is a service that gives everybody the same answer.
type says []byte

func (s says) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(s)), Request: r}, nil
}

// FuzzAnswers: whatever the metadata service and AMD's key service answer, what
// comes back fits the report or is refused, and nothing else is kept.
func FuzzAnswers(f *testing.F) {
	f.Add(testdata.VcekBytes)
	f.Add([]byte(`{"vcekCert":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n","tcbm":"DB19000000000004","certificateChain":"","cacheControl":"86400"}`))
	f.Add([]byte{})
	r, err := snp.ParseReport(testdata.AttestationBytes)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		s := Source{THIM: "https://thim.example", KDS: "https://kds.example", TLS: says(answer), Retry: policy.RetryOptions{MaxRetries: -1}}
		certs, err := s.For(t.Context(), r, snp.HostCerts{})
		if err == nil && !certs.Fit(r) {
			t.Errorf("certificates that do not fit: %v", certs)
		}
		if err != nil && fault.KindOf(err) != fault.Unavailable {
			t.Errorf("kind %v: %v", fault.KindOf(err), err)
		}
	})
}
