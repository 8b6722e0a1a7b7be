// Package image reads container images as the confidential platform measures
// them: by digest, layer by layer, each layer's content one dm-verity hash.
//
// Life of an image: Open takes a reference that holds a digest and finds the
// manifest with it, in the registry the reference names, or in an OCI layout or
// a docker archive on this machine, and checks that manifest and configuration
// are the bytes the digest stands for. Roots then reads each layer once,
// several at a time: the tar is held against its diff id, looked through for
// what the platform refuses, and turned into the ext4 image whose root hash the
// platform compares. What has been hashed once is remembered in Cache.
//
// Nothing a registry or a file says is believed beyond the digest.
package image
