// Package page is the contract in a browser: what was agreed, who approved it,
// what was done, and a check of it all that does not believe who serves it.
//
// Life of a visit: Handler gives the browser one document, a style sheet and its
// scripts. These read the log's checkpoint and its newest entries from beside the
// page (C2SP tlog-tiles) and show them; then they go through the log once, bundle
// by bundle, fold it, and show what the contract has come to, as unverified. When
// asked they go through it again and check: the checkpoint's signature with the
// ledger key that the visitor typed or that stands in the address after '#', the
// witnesses' cosignatures that the contract's specification wants, the tree's root
// over every entry, each statement's signature, and whether it could be said then.
// Of the entries nothing is kept but a hash for each bundle, to which is held what
// is fetched again to be shown: a record of 100,000 entries shows its newest after
// 0.7 s, its contract after 7.5 s, is verified in 14 s, and takes 2.8 MB of script
// heap (BenchmarkLoad, two processors, loopback). Text from the log is only ever set as text.
//
// Who reads: the ledger serves the page to everybody and the record to the
// contract's parties, whose keys a browser must not have. So a party makes a read
// token on its own machine (cloister ledger token) and pastes it; it is a signature
// over the ledger's key and a time at most an hour away, and the page keeps it in a
// variable: not in the address, which browsers write down, and not in a store. It
// is simpler than a signature on each request through a program beside the browser
// (that is what cloister audit page does) and than a session at the server, which
// would have state to lose. What it gives away if stolen is reading one log until
// then. Where that is too much, cloister audit page remains.
//
// The scripts come from the server that they judge. Who does not want to believe
// it for those either lets cloister audit page serve them from its own machine.
package page

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed static
var static embed.FS

// policy lets the page load its own files, ask its own server, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Handler serves the page's files at /. The server puts it at page/ below the log,
// whose checkpoint and tiles it finds there.
func Handler() http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "the page is read with GET", http.StatusMethodNotAllowed)
			return
		}
		server.ServeHTTP(w, r)
	})
}
