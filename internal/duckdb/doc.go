// Package duckdb holds what the tests need to run DuckDB, from the npm
// registry, pinned by the lock file: `make test-setup` installs it here, and
// `node internal/duckdb/query.mjs STATEMENT` runs a statement.
package duckdb
