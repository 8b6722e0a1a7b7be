package azure

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

func TestOneLine(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"Forbidden","message":"no.\nway","innererror":{"code":"AccessDenied"}}}`: `HTTP 403, Forbidden (AccessDenied): "no.\nway"`,
		`{"error":{"code":"Forbidden","message":"` + strings.Repeat("x", 400) + `"}}`:              `HTTP 403, Forbidden: "` + strings.Repeat("x", 300) + `…"`,
		`{"error":"no"}`: "HTTP 403",
		``:               "HTTP 403",
		`<html>`:         "HTTP 403",
	} {
		request, _ := http.NewRequest(http.MethodGet, "https://v.example/keys", nil)
		resp := &http.Response{StatusCode: 403, Status: "403 Forbidden", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: request}
		err := OneLine(fmt.Errorf("asking: %w", runtime.NewResponseError(resp)))
		var answer *azcore.ResponseError
		if err.Error() != want || !errors.As(err, &answer) || answer.StatusCode != 403 {
			t.Errorf("%.40s: %v, want %s", body, err, want)
		}
	}
	if err := errors.New("x"); OneLine(err) != err || OneLine(nil) != nil {
		t.Error("another error does not stay")
	}
}

// FuzzErrorBody: what a stranger in a service's place answers makes one line.
func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"error":{"code":"Forbidden","message":"no","innererror":{"code":"AccessDenied"}}}`))
	f.Add([]byte(`{"error":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, _ := http.NewRequest(http.MethodGet, "https://v.example/keys", nil)
		resp := &http.Response{StatusCode: 403, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: request}
		text := ErrorBody(runtime.NewResponseError(resp).(*azcore.ResponseError)).Message
		line := OneLine(runtime.NewResponseError(&http.Response{StatusCode: 403, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: request})).Error()
		if strings.ContainsAny(line, "\n\r") || len(text) > 0 && !strings.Contains(line, ": \"") {
			t.Errorf("%q does not say %q", line, text)
		}
	})
}
