// Package voltest makes volumes for tests: small, of every shape, without the
// code that owners use.
//
// Life of a test volume: New, then entries in any order but parents first, then
// Write, which packs, seals and puts data objects and last the manifest.
package voltest

import (
	"context"
	"path"
	"slices"
	"testing"

	"cloister/fs/format"
)

// Putter is a store to write to.
type Putter interface {
	Put(ctx context.Context, name string, data []byte) error
}

// Volume is a volume being described. Fields may be changed before Write.
type Volume struct {
	Root       *format.RootSecret
	ID         format.VolumeID
	KeyVersion uint32
	Epoch      uint64
	Suite      format.Suite
	// ObjectSize is where objects are cut, in bytes of plaintext.
	ObjectSize int

	nodes   []*node
	byPath  map[string]*node
	links   []link
	objects []format.Object
}

type node struct {
	format.Node
	inode  uint32
	pieces []Piece
}

type link struct {
	parent *node
	name   string
	child  *node
}

// Piece is bytes of a file at an offset; what no piece covers is a hole.
type Piece struct {
	Off  int64
	Data []byte
}

// New returns an empty volume: a root directory of mode 0755.
func New() *Volume {
	v := &Volume{Root: format.NewRootSecret(), ID: format.NewVolumeID(), KeyVersion: 1, Epoch: 1,
		Suite: format.Suite16K, ObjectSize: 32<<20 - 64<<10, byPath: map[string]*node{}}
	v.add(".", format.ModeDir|0o755)
	return v
}

func (v *Volume) add(name string, mode uint32) *node {
	n := &node{inode: uint32(len(v.nodes) + 1)}
	n.Attr = format.Attr{Mode: mode, Mtime: format.Time{Sec: 1_600_000_000, Nsec: 123_456_789}, Ctime: format.Time{Sec: 1_600_000_001}}
	v.nodes = append(v.nodes, n)
	v.byPath[name] = n
	if name != "." {
		v.links = append(v.links, link{v.byPath[path.Dir(name)], path.Base(name), n})
	}
	return n
}

// Dir adds a directory.
func (v *Volume) Dir(name string) *format.Node { return &v.add(name, format.ModeDir|0o755).Node }

// File adds a file of mode 0644.
func (v *Volume) File(name string, data []byte) *format.Node {
	return v.Sparse(name, int64(len(data)), Piece{0, data})
}

// Sparse adds a file with holes. Pieces ascend and do not overlap.
func (v *Volume) Sparse(name string, size int64, pieces ...Piece) *format.Node {
	n := v.add(name, format.ModeFile|0o644)
	n.Attr.Size = uint64(size)
	n.pieces = slices.DeleteFunc(pieces, func(p Piece) bool { return len(p.Data) == 0 })
	return &n.Node
}

// Symlink adds a symlink.
func (v *Volume) Symlink(name, target string) *format.Node {
	n := v.add(name, format.ModeSymlink|0o777)
	n.Target = []byte(target)
	return &n.Node
}

// Special adds an inode of another type.
func (v *Volume) Special(name string, mode uint32) *format.Node { return &v.add(name, mode).Node }

// Link adds another name of what is at old.
func (v *Volume) Link(name, old string) {
	v.links = append(v.links, link{v.byPath[path.Dir(name)], path.Base(name), v.byPath[old]})
}

// Inode returns the inode number of what is at name.
func (v *Volume) Inode(name string) uint32 { return v.byPath[name].inode }

// Extents returns where a file's bytes are. After Write.
func (v *Volume) Extents(name string) []format.Extent { return v.byPath[name].Extents }

// Objects returns the object table. After Write.
func (v *Volume) Objects() []format.Object { return v.objects }

// Key returns the DEK of any of the root secret's volumes: an fs.KeyFunc.
func (v *Volume) Key(p format.Preamble) (*format.DEK, error) { return v.Root.DEK(p) }

// Write seals the volume into store and returns its reference.
func (v *Volume) Write(t testing.TB, store Putter) format.Reference {
	t.Helper()
	var b format.Builder
	v.objects = nil
	p := &packer{t: t, store: store, v: v, key: format.NewObjectKey()}
	b.AddKey(format.Key{Key: p.key, Origin: v.ID, Suite: v.Suite})
	for _, n := range v.nodes {
		n.Extents = nil
		for _, piece := range n.pieces {
			n.Extents = append(n.Extents, p.add(piece)...)
		}
	}
	p.flush()
	for _, o := range v.objects {
		b.AddObject(o)
	}
	for _, n := range v.nodes {
		b.AddNode(n.inode, n.Node)
	}
	for _, l := range v.links {
		b.Link(l.parent.inode, []byte(l.name), l.child.inode)
	}
	plain, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	preamble := format.Preamble{Suite: v.Suite, KeyVersion: v.KeyVersion, Volume: v.ID, Run: format.NewRunID(), Epoch: v.Epoch}
	sealed, ref := format.SealManifest(v.Root.DeriveDEK(v.ID, v.KeyVersion), preamble, plain)
	p.put(format.ManifestName(v.Epoch), sealed)
	return ref
}

// packer fills objects.
type packer struct {
	t     testing.TB
	store Putter
	v     *Volume
	key   *format.ObjectKey
	plain []byte
}

// large is the size from which a piece begins an object of its own.
const large = 1 << 20

func (p *packer) add(piece Piece) (extents []format.Extent) {
	if len(piece.Data) >= large {
		p.flush()
		defer p.flush()
	}
	for len(piece.Data) > 0 {
		if len(p.plain) >= p.v.ObjectSize {
			p.flush()
		}
		n := min(len(piece.Data), p.v.ObjectSize-len(p.plain))
		extents = append(extents, format.Extent{FileOff: uint64(piece.Off), Object: uint32(len(p.v.objects)),
			ObjectOff: uint32(len(p.plain)), Length: uint32(n)})
		p.plain = append(p.plain, piece.Data[:n]...)
		piece.Data, piece.Off = piece.Data[n:], piece.Off+int64(n)
	}
	return extents
}

func (p *packer) flush() {
	if len(p.plain) == 0 {
		return
	}
	id := format.Identity{Suite: p.v.Suite, Kind: format.KindData, Volume: p.v.ID, Object: format.NewObjectID()}
	sealed, header := format.SealData(nil, p.key, id, p.plain, true)
	p.put(format.ObjectName(id.Object), sealed)
	p.v.objects = append(p.v.objects, format.Object{ID: id.Object, Header: header, SealedLen: int64(len(sealed))})
	p.plain = p.plain[:0]
}

func (p *packer) put(name string, sealed []byte) {
	p.t.Helper()
	if err := p.store.Put(p.t.Context(), name, sealed); err != nil {
		p.t.Fatal(err)
	}
}
