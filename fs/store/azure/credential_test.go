package azure

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"cloister/fs/store/storetest"
	"cloister/internal/azurite"
	"cloister/internal/fault"
)

// signed returns the query of a SAS for a container.
func signed(t *testing.T, container string, permissions sas.ContainerPermissions) string {
	t.Helper()
	key, err := service.NewSharedKeyCredential(azurite.Account, azurite.Key)
	if err != nil {
		t.Fatal(err)
	}
	query, err := sas.BlobSignatureValues{
		Protocol:      sas.ProtocolHTTPSandHTTP,
		ExpiryTime:    time.Now().UTC().Add(time.Hour),
		ContainerName: container,
		Permissions:   permissions.String(),
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return query.Encode()
}

var everything = sas.ContainerPermissions{Read: true, Create: true, Write: true, List: true, Delete: true}

func TestConformanceBySAS(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		made := open(t, Options{})
		t.Setenv(connectionVariable, "")
		return openURL(t, made.String()+"?"+signed(t, made.place.container, everything), Options{PageSize: 10})
	})
}

// A SAS is in no error and no formatted value, whatever fails.
func TestSASIsNotShown(t *testing.T) {
	p := newProxy(t)
	made := p.open(t)
	t.Setenv(connectionVariable, "")
	query := signed(t, made.place.container, sas.ContainerPermissions{Read: true})
	s, err := Open(t.Context(), made.String()+"?"+query, Options{Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, signature, _ := strings.Cut(query, "sig=")
	signature, _, _ = strings.Cut(signature, "&")
	if len(signature) < 20 {
		t.Fatalf("no signature in %q", query)
	}
	hidden := func(what string, v any) {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if shown := fmt.Sprintf(format, v); strings.Contains(shown, "sig=") || strings.Contains(shown, signature) {
				t.Errorf("%s, as %s, shows the signature: %s", what, format, shown)
			}
		}
	}
	hidden("the store", s)
	hidden("the place", s.place)
	hidden("the place in something", struct{ l location }{s.place})
	hidden("the token", s.place.sas)
	for name, do := range map[string]func(*proxy, http.ResponseWriter, *http.Request){
		"a refusal": nil, "an overload": answers(503, "ServerBusy"), "a dropped connection": hangUp, "nonsense": answers(418, ""),
	} {
		p.set()
		if do != nil {
			p.set(strike{do: do})
		}
		for call, err := range calls(t.Context(), s) {
			if err == nil {
				t.Errorf("%s: %s succeeds", name, call)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := e.Error(); strings.Contains(text, "sig=") || strings.Contains(text, signature) {
					t.Errorf("%s: %s: %v", name, call, text)
				}
			}
		}
	}
	// What the SAS does not permit, the error says how to be permitted.
	p.set()
	err = s.Put(t.Context(), "d/x", []byte("x"))
	if fault.KindOf(err) != fault.Denied || !strings.Contains(fault.Hints(err)[0], "(r, c, w, l, d)") {
		t.Errorf("Put by a SAS for reading: %v %q", err, fault.Hints(err))
	}
}

// fixedToken is a credential of one token.
type fixedToken string

func (f fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// noIdentity cannot get a token; it says so as azidentity does.
type noIdentity struct{}

func (noIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errNoIdentity{errors.New("no identity here\nand many lines of why")}
}

type errNoIdentity struct{ error }

func (errNoIdentity) NonRetriable() {}

func TestWhichCredential(t *testing.T) {
	const account = "https://acct.blob.core.windows.net/cont/vol"
	key := base64.StdEncoding.EncodeToString([]byte("key"))
	ours := "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=" + key + ";EndpointSuffix=core.windows.net"
	others := strings.Replace(ours, "=acct;", "=other;", 1)
	for _, c := range []struct {
		url, variable string
		injected      azcore.TokenCredential
		want          credentialKind
		refused       string
	}{
		{account + testSAS, ours, fixedToken("t"), bySAS, ""},
		{account, ours, nil, byConnectionString, ""},
		{account, ours, fixedToken("t"), byIdentity, ""},
		{account, others, nil, byIdentity, ""},
		{account, "UseDevelopmentStorage=true", nil, byIdentity, ""},
		{account, "", nil, byIdentity, ""},
		{account, "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=secret", nil, byConnectionString, ""},
		{account, "nonsense secret", nil, 0, "is not a connection string"},
		{account, "AccountName=acct;AccountKey=secret!", nil, 0, "is not a connection string"},
		{"https://blobs.example.org/cont/vol", "", fixedToken("t"), 0, "is not a host of Azure's blob service"},
		{"https://acct.blob.core.windows.net.example.org/cont/vol", "", nil, 0, "is not a host of Azure's blob service"},
		{"https://blobs.example.org/cont/vol" + testSAS, "", nil, bySAS, ""},
		{"http://127.0.0.1:1/acct/cont/vol", "", fixedToken("t"), 0, "not sent over http"},
		{"http://127.0.0.1:1/acct/cont/vol", "", nil, 0, "not sent over http"},
	} {
		t.Setenv(connectionVariable, c.variable)
		s, err := Open(t.Context(), c.url, Options{Credential: c.injected})
		if c.refused != "" {
			if fault.KindOf(err) != fault.Usage || !strings.Contains(fmt.Sprint(err), c.refused) || strings.Contains(fmt.Sprint(err), "secret") || len(fault.Hints(err)) != 1 {
				t.Errorf("%s with %q: %v, want a usage error with %q", c.url, c.variable, err, c.refused)
			}
			continue
		}
		if err != nil || s.credential != c.want {
			t.Errorf("%s with %q: credential %v, %v, want %v", c.url, c.variable, s, err, c.want)
		}
	}
}

func TestNoIdentity(t *testing.T) {
	t.Setenv(connectionVariable, "")
	s, err := Open(t.Context(), "https://acct.blob.core.windows.net/cont/vol", Options{Credential: noIdentity{}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Get(t.Context(), "d/x", 0, make([]byte, 1))
	want := "reading object d/x of https://acct.blob.core.windows.net/cont/vol: getting a token: no identity here"
	if fault.KindOf(err) != fault.Denied || err.Error() != want || !strings.Contains(fault.Hints(err)[0], "az login") {
		t.Errorf("%v: %q %q, want %q", fault.KindOf(err), err, fault.Hints(err), want)
	}
}

// token makes what Azurite takes for a token of the identity service: it looks
// at the claims and not at the signature.
func token(t *testing.T) fixedToken {
	now := time.Now().Unix()
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := fmt.Sprintf(`{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/","iat":%d,"nbf":%d,"exp":%d}`,
		now-10, now-10, now+3600)
	return fixedToken(part(`{"alg":"RS256","typ":"JWT"}`) + "." + part(claims) + "." + part("signature"))
}

// By a bearer token, over TLS with a CA of one's own.
func TestConformanceByToken(t *testing.T) {
	ca := newCA(t, "127.0.0.1")
	server := azurite.StartTLS(t, azurite.TLS{CertFile: ca.certFile, KeyFile: ca.keyFile})
	t.Setenv(connectionVariable, "")
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return openURL(t, server.NewURL(), Options{PageSize: 10, Credential: token(t), CAFile: ca.caFile})
	})
	s := openURL(t, server.NewURL(), Options{Credential: token(t), CAFile: ca.caFile})
	expired, err := Open(t.Context(), s.String(), Options{Credential: fixedToken("nonsense"), CAFile: ca.caFile})
	if err != nil {
		t.Fatal(err)
	}
	err = expired.Put(t.Context(), "d/x", nil)
	if fault.KindOf(err) != fault.Denied || !strings.Contains(fault.Hints(err)[0], "Storage Blob Data Contributor") {
		t.Errorf("Put with a bad token: %v: %v %q", fault.KindOf(err), err, fault.Hints(err))
	}
}

// shifts is a credential whose tokens live for an hour. While it is away it has
// none to give.
type shifts struct {
	away   atomic.Bool
	failed int
}

func (c *shifts) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if c.away.Load() {
		c.failed++
		return azcore.AccessToken{}, &azidentity.AuthenticationFailedError{}
	}
	expires := time.Now().Add(time.Hour)
	return azcore.AccessToken{Token: expires.Format(time.RFC3339), ExpiresOn: expires}, nil
}

// openShifts opens a store that accepts a token until it expires, and returns
// the least time that one of those presented had left.
func openShifts(t *testing.T, c *shifts) (*Store, *time.Duration) {
	t.Helper()
	t.Setenv(connectionVariable, "")
	least := time.Hour
	answer := transport(func(r *http.Request) (*http.Response, error) {
		expires, err := time.Parse(time.RFC3339, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil || time.Until(expires) < 0 {
			return response(r, 401, nil, strings.NewReader("")), nil
		}
		least = min(least, time.Until(expires))
		return ranged(r, strings.NewReader("x"), 0, 0), nil
	})
	s, err := Open(t.Context(), "https://acct.blob.core.windows.net/cont/vol", Options{Credential: c, Client: &http.Client{Transport: answer}})
	if err != nil {
		t.Fatal(err)
	}
	return s, &least
}

// A token is renewed ahead of its end, so that the identity service may be away
// for minutes, and no read of a mount that outlives many is refused or delayed.
func TestTokensAreRenewedAhead(t *testing.T) {
	c := &shifts{}
	synctest.Test(t, func(t *testing.T) {
		s, least := openShifts(t, c)
		for minute := range 300 {
			c.away.Store(minute%60 >= 54 && minute%60 < 58)
			start := time.Now()
			if err := s.Get(t.Context(), "d/x", 0, make([]byte, 1)); err != nil || time.Since(start) != 0 {
				t.Errorf("minute %d: %v after %v", minute, err, time.Since(start))
			}
			time.Sleep(time.Minute)
		}
		if c.failed == 0 || *least < time.Minute {
			t.Errorf("a token was used %v before its end; %d renewals failed, which must be some", *least, c.failed)
		}
	})
}

// An identity service that is away for longer delays requests as a store does.
func TestIdentityAway(t *testing.T) {
	c := &shifts{}
	synctest.Test(t, func(t *testing.T) {
		s, _ := openShifts(t, c)
		get := func() error { return s.Get(t.Context(), "d/x", 0, make([]byte, 1)) }
		c.away.Store(true)
		if err := get(); fault.KindOf(err) != fault.Denied {
			t.Errorf("at first: %v: %v", fault.KindOf(err), err)
		}
		c.away.Store(false)
		if err := get(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		c.away.Store(true)
		time.AfterFunc(30*time.Second, func() { c.away.Store(false) })
		if err := get(); err != nil {
			t.Errorf("away for 30 s: %v", err)
		}
		time.Sleep(2 * time.Hour)
		c.away.Store(true)
		start := time.Now()
		if err := get(); fault.KindOf(err) != fault.Unavailable || time.Since(start) > DefaultPatience {
			t.Errorf("away for good: %v: %v after %v", fault.KindOf(err), err, time.Since(start))
		}
	})
}
