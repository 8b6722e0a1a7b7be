package spec

import _ "embed"

//go:embed schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of a complete specification,
// for editors. It is made from this package's types and holds a document to its
// form; what one part of a document demands of another, Validate finds.
func Schema() string { return schema }
