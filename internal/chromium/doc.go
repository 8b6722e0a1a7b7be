// Package chromium holds what the tests need to look at a page through Debian's
// Chromium: playwright-core from the npm registry, pinned by the lock file, which
// `make test-setup` installs here. `node internal/chromium/visit.mjs SHOTS` opens
// each URL of the list on standard input, gives the page its token and presses its
// button with the keyboard, and prints a JSON line of what is to be seen.
package chromium
