package format

// Limits of FORMAT.md §1. A reader refuses what exceeds them before it
// allocates for it.
const (
	MaxSealedObject   = 1 << 30 // bytes
	MaxSealedManifest = 8 << 30 // bytes
	MaxSealedRecord   = 64 << 20
	MaxStanzas        = 64 << 10 // bytes, all of a preamble's
	MaxInodes         = 1 << 28
	MaxEntries        = 1 << 28
	MaxObjects        = 1 << 28
	MaxExtents        = 1 << 30
	MaxKeys           = 65536
	MaxName           = 255  // bytes; Linux NAME_MAX
	MaxTarget         = 4095 // bytes; Linux PATH_MAX less the NUL
	MaxDepth          = 4096
	MaxXattrValue     = 64 << 10 // bytes; Linux XATTR_SIZE_MAX
	MaxXattrs         = 1 << 20  // bytes, all of one inode's
	maxSections       = 64

	// WriteObject is where writers end a data object, in sealed bytes: small
	// enough to keep frozen for a retry, and a multiple of the 8 MiB ranges
	// that block stores serve best.
	WriteObject = 32 << 20
)
