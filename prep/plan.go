package prep

import (
	"cloister/fs/format"
	"cloister/prep/tree"
)

const (
	suite = format.Suite16K

	// smallFile is the size in bytes from which a file has objects of its own.
	// FORMAT.md §4.
	smallFile = 1 << 20
)

// maxPacked bounds the files of one object. What is known of each until it is put,
// some 300 bytes, is held for each object under way: of 40-byte files an object of
// full size has 838,000. It cuts objects of files of less than 1 KiB on average, of
// 40 bytes at 1.3 MB.
const maxPacked = 1 << 15

// objectSpace is how many plaintext bytes fill an object of
// format.WriteObject sealed bytes.
var objectSpace = mustPlainLen(format.WriteObject)

func mustPlainLen(sealedLen int64) int64 {
	n, ok := suite.PlainLen(sealedLen)
	if !ok {
		panic("prep: no stream has the length of a full object")
	}
	return n
}

// piece is a range of a source file and its place in an object's plaintext.
type piece struct {
	path      string
	entry     *tree.Entry
	fileOff   int64
	objectOff int64
	length    int64
}

// plannedObject is an object to be read, sealed and put.
type plannedObject struct {
	index  uint32 // in the object table
	pieces []piece
	length int64 // plaintext bytes
}

// planner says which bytes go into which object: files of less than smallFile
// bytes of data follow each other in one, larger ones have their own.
type planner struct {
	newObject func() uint32 // reserves an entry of the object table
	emit      func(*plannedObject) error
	pack      *plannedObject // being filled with small files, or nil
}

type dataRange struct{ off, length int64 }

// file plans a file's data and returns its extents.
func (p *planner) file(path string, e *tree.Entry, data []dataRange) ([]format.Extent, error) {
	var total int64
	for _, r := range data {
		total += r.length
	}
	if total == 0 {
		return nil, nil
	}
	if total >= smallFile {
		return p.large(path, e, data)
	}
	if p.pack != nil && (p.pack.length+total > objectSpace || len(p.pack.pieces) >= maxPacked) {
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	if p.pack == nil {
		p.pack = &plannedObject{index: p.newObject()}
	}
	var extents []format.Extent
	for _, r := range data {
		extents = append(extents, p.pack.add(path, e, r))
	}
	return extents, nil
}

// large cuts a file where an object is full.
func (p *planner) large(path string, e *tree.Entry, data []dataRange) (extents []format.Extent, err error) {
	o := &plannedObject{index: p.newObject()}
	for _, r := range data {
		for r.length > 0 {
			if o.length == objectSpace {
				if err := p.emit(o); err != nil {
					return nil, err
				}
				o = &plannedObject{index: p.newObject()}
			}
			n := min(r.length, objectSpace-o.length)
			extents = append(extents, o.add(path, e, dataRange{r.off, n}))
			r.off, r.length = r.off+n, r.length-n
		}
	}
	return extents, p.emit(o)
}

// flush emits the object that small files are being packed into.
func (p *planner) flush() error {
	pack := p.pack
	p.pack = nil
	if pack == nil {
		return nil
	}
	return p.emit(pack)
}

func (o *plannedObject) add(path string, e *tree.Entry, r dataRange) format.Extent {
	p := piece{path: path, entry: e, fileOff: r.off, objectOff: o.length, length: r.length}
	o.pieces = append(o.pieces, p)
	o.length += r.length
	return p.extent(o.index)
}

// extent returns where the piece is, for a table in which its object is number
// object.
func (p piece) extent(object uint32) format.Extent {
	return format.Extent{FileOff: uint64(p.fileOff), Object: object, ObjectOff: uint32(p.objectOff), Length: uint32(p.length)}
}
