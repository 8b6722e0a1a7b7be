// Package format is the Cloister volume format, version 1, as FORMAT.md beside
// it specifies; the names here are that document's.
//
// Life of a volume: a writer makes an ObjectKey, seals file bytes with Seal
// into data objects, describes the tree to a Builder and seals what it returns
// with SealManifest. A reader gives the manifest's bytes and the DEK to
// OpenManifest, looks up names, attributes and extents in the Manifest, and
// opens the segments that hold an extent with an Opener. A writer that must
// survive being killed seals a Record after every fsync.
//
// The package is a leaf: it does no I/O and knows neither stores nor mounts.
// Everything it parses is checked as a stranger's input, sealed or not.
package format
