package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiver is whom a webhook tells. It believes nobody without the key.
type receiver struct {
	key    []byte
	file   func(n int) string
	answer []string

	mu    sync.Mutex // guards what follows
	asked int
	taken int
	more  *sync.Cond // it took more
}

// awaitTaken goes on once the receiver has taken so many messages.
func awaitTaken(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1 && of(ts).receiver != nil, "taken N")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	r := of(ts).receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.taken < want {
		r.more.Wait()
	}
}

func startReceiver(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 1, "receiver KEYFILE STATUS...")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(ts.ReadFile(args[0])), "whsec_"))
	ts.Check(err)
	r := &receiver{key: key, file: func(n int) string { return ts.MkAbs(fmt.Sprintf("received.%d", n)) }, answer: args[1:]}
	r.more = sync.NewCond(&r.mu)
	of(ts).receiver = r
	server := httptest.NewTLSServer(r)
	ts.Defer(server.Close)
	ts.Setenv("RECEIVER", server.URL+"/hook")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("receiver.pem"), block, 0o644))
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.asked <= len(r.answer) {
		status, _ := strconv.Atoi(r.answer[r.asked-1])
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		return
	}
	body, err := io.ReadAll(q.Body)
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.%s", q.Header.Get("Webhook-Id"), q.Header.Get("Webhook-Timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); err != nil || q.URL.Path != "/hook" || q.Header.Get("Webhook-Signature") != want {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if err := os.WriteFile(r.file(r.taken+1), fmt.Appendf(nil, "%s\n%s\n", q.Header.Get("Webhook-Id"), body), 0o644); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.taken++
	r.more.Broadcast()
}
