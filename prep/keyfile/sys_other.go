//go:build !unix

package keyfile

import "os"

// checkPrivate checks nothing where there is no Unix mode: on Windows a file's
// access list comes from its directory and says who may read it by rules (owner
// rights, inherited entries, groups) that a mode does not show. A key file
// belongs in the user's profile, which others cannot read.
func checkPrivate(_, _ string, _ os.FileInfo) error { return nil }

// syncDir does nothing: Windows has no such call, NTFS journals names itself.
func syncDir(string) error { return nil }
