// Package page is the contract in a browser: what was agreed, who approved it,
// what was done, and a check of it all that does not believe who serves it.
//
// Life of a visit: Handler gives the browser one document, a style sheet and
// three scripts. The scripts read the log's checkpoint and entry bundles (C2SP
// tlog-tiles) from the same server, show them as unverified, and, when asked,
// check the checkpoint's signature with the ledger key that the visitor typed or
// that stands in the address after '#', the tree's root over every entry, and
// each statement's signature. Text from the log is only ever set as text.
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
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler serves the page's files at /. The server it is put into serves the log
// at /checkpoint and /tile/.
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
