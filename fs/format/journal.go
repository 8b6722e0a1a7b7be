package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Journal operations, FORMAT.md §7.
const (
	opEnd    = 0
	opKey    = 1
	opObject = 2
	opInode  = 3
	opLink   = 4
	opUnlink = 5
	opFree   = 6
	opFence  = 7

	opHeader      = 8  // op, flags, length
	inodeOpHeader = 16 // inode, extents, target length, attributes length
)

// Record collects the operations of one journal record. The zero Record is
// empty.
type Record struct{ ops []byte }

// Empty reports whether nothing was added.
func (r *Record) Empty() bool { return len(r.ops) == 0 }

// Len returns the length of the operations in bytes; a sealed record may have
// at most MaxSealedRecord.
func (r *Record) Len() int { return len(r.ops) }

// Key adds an entry to the key table.
func (r *Record) Key(k Key) { r.op(opKey, appendKey(nil, k)) }

// Object adds an entry to the object table.
func (r *Record) Object(o Object) { r.op(opObject, appendObject(nil, o)) }

// Inode sets an inode to what n says. Attr.Nlink is ignored.
func (r *Record) Inode(inode uint32, n Node) {
	le := binary.LittleEndian
	var xattrs []byte
	if len(n.Xattrs) > 0 {
		xattrs = appendXattrs(nil, n.Xattrs)
	}
	body := le.AppendUint32(nil, inode)
	body = le.AppendUint32(body, uint32(len(n.Extents)))
	body = le.AppendUint32(body, uint32(len(n.Target)))
	body = le.AppendUint32(body, uint32(len(xattrs)))
	body = append(body, make([]byte, inodeSize)...)
	encodeAttr(body[inodeOpHeader:], n.Attr)
	for _, e := range n.Extents {
		body = appendExtent(body, e)
	}
	r.op(opInode, append(append(body, n.Target...), xattrs...))
}

// Link sets a directory entry.
func (r *Record) Link(dir uint32, name []byte, inode uint32) {
	body := binary.LittleEndian.AppendUint32(nil, dir)
	body = binary.LittleEndian.AppendUint32(body, inode)
	r.op(opLink, append(body, name...))
}

// Unlink removes a directory entry.
func (r *Record) Unlink(dir uint32, name []byte) {
	r.op(opUnlink, append(binary.LittleEndian.AppendUint32(nil, dir), name...))
}

// Free says that an inode is no longer in use.
func (r *Record) Free(inode uint32) {
	r.op(opFree, binary.LittleEndian.AppendUint32(nil, inode))
}

// Fence says that the run that wrote the records before writes no more.
func (r *Record) Fence() { r.op(opFence, nil) }

func (r *Record) op(op uint16, body []byte) {
	r.ops = binary.LittleEndian.AppendUint16(r.ops, op)
	r.ops = binary.LittleEndian.AppendUint16(r.ops, flagCritical)
	r.ops = binary.LittleEndian.AppendUint32(r.ops, uint32(len(body)))
	r.ops = append(r.ops, body...)
}

// SealRecord seals a journal record as preamble describes it; it sets the
// preamble's kind and check value. Run, epoch, sequence and the previous
// digest are the caller's. It returns the record and its digest.
func SealRecord(dek *DEK, p Preamble, r *Record) ([]byte, Digest) {
	p.Kind = KindRecord
	return p.seal(dek, NewHeader(), binary.LittleEndian.AppendUint64(r.ops, opEnd))
}

// Replayer is what a journal record's operations are applied to. An error
// ends the replay and is returned by ReplayRecord.
type Replayer interface {
	Key(Key) error
	Object(Object) error
	Inode(inode uint32, n Node) error
	Link(dir uint32, name []byte, inode uint32) error
	Unlink(dir uint32, name []byte) error
	Free(inode uint32) error
	Fence() error
}

// OpenRecord opens a journal record that was read whole from the store, in the
// memory that holds it. It returns the clear part, the digest, and the
// operations for ReplayRecord.
func OpenRecord(sealed []byte, dek *DEK) (p Preamble, digest Digest, ops []byte, err error) {
	digest = sha256.Sum256(sealed)
	p, size, err := ParsePreamble(sealed)
	if err != nil {
		return p, digest, nil, err
	}
	if p.Kind != KindRecord {
		return p, digest, nil, malformed("a manifest is in the place of a journal record")
	}
	p.Stanzas = bytes.Clone(p.Stanzas)
	ops, err = p.open(dek, sealed[size:])
	if err != nil {
		return p, digest, nil, fmt.Errorf("opening record %d of epoch %d: %w", p.Sequence, p.Epoch, err)
	}
	return p, digest, ops, nil
}

// ReplayRecord calls to for each operation in ops. Names, targets and values
// point into ops. What an operation means for the tree is the Replayer's to
// check; that it is well-formed is checked here, of all operations before the
// first call, so that a record applies whole or not at all.
func ReplayRecord(ops []byte, to Replayer) error {
	if err := eachOp(ops, func(op uint16, body []byte) error { return replayOp(op, body, nothing{}) }); err != nil {
		return err
	}
	return eachOp(ops, func(op uint16, body []byte) error { return replayOp(op, body, to) })
}

func eachOp(ops []byte, do func(op uint16, body []byte) error) error {
	le := binary.LittleEndian
	for {
		if len(ops) < opHeader {
			return malformed("the record has no end")
		}
		op, flags, length := le.Uint16(ops), le.Uint16(ops[2:]), le.Uint32(ops[4:])
		if op == opEnd {
			if !allZero(ops) {
				return malformed("the record's padding is not zeros")
			}
			return nil
		}
		ops = ops[opHeader:]
		if uint64(length) > uint64(len(ops)) || flags&^flagCritical != 0 {
			return malformed("operation %d is %d bytes long", op, length)
		}
		if op > opFence && flags&flagCritical == 0 {
			ops = ops[length:]
			continue
		}
		if err := do(op, ops[:length:length]); err != nil {
			return err
		}
		ops = ops[length:]
	}
}

func replayOp(op uint16, body []byte, to Replayer) error {
	le := binary.LittleEndian
	long := func(n int) bool { return len(body) >= n }
	switch {
	case op == opKey && len(body) == keySize && Suite(body[52]).Known() && allZero(body[53:]):
		return to.Key(decodeKey(body))
	case op == opObject && len(body) == objectSize:
		return to.Object(decodeObject(body))
	case op == opInode && long(inodeOpHeader+inodeSize):
		inode, n, err := decodeInodeOp(body)
		if err != nil {
			return err
		}
		return to.Inode(inode, n)
	case op == opLink && long(8) && ValidName(body[8:]):
		return to.Link(le.Uint32(body), body[8:], le.Uint32(body[4:]))
	case op == opUnlink && long(4) && ValidName(body[4:]):
		return to.Unlink(le.Uint32(body), body[4:])
	case op == opFree && len(body) == 4:
		return to.Free(le.Uint32(body))
	case op == opFence && len(body) == 0:
		return to.Fence()
	}
	return malformed("operation %d with %d bytes", op, len(body))
}

func decodeInodeOp(body []byte) (inode uint32, n Node, err error) {
	le := binary.LittleEndian
	inode = le.Uint32(body)
	extents, target, xattrs := uint64(le.Uint32(body[4:])), uint64(le.Uint32(body[8:])), uint64(le.Uint32(body[12:]))
	entry := node(body[inodeOpHeader:][:inodeSize])
	rest := body[inodeOpHeader+inodeSize:]
	if inode == 0 || inode > MaxInodes || uint64(len(rest)) != extents*extentSize+target+xattrs {
		return 0, n, malformed("inode operation for %d with %d bytes", inode, len(body))
	}
	n.Attr = entry.attr()
	for range extents {
		n.Extents = append(n.Extents, decodeExtent(rest))
		rest = rest[extentSize:]
	}
	n.Target, rest = rest[:target], rest[target:]
	if xattrs > 0 {
		var size int
		if n.Xattrs, size, err = decodeXattrs(rest); err != nil || size != len(rest) {
			return 0, n, malformed("inode operation for %d has wrong extended attributes", inode)
		}
	}
	return inode, n, nil
}

// nothing is the Replayer of the first pass.
type nothing struct{}

func (nothing) Key(Key) error                     { return nil }
func (nothing) Object(Object) error               { return nil }
func (nothing) Inode(uint32, Node) error          { return nil }
func (nothing) Link(uint32, []byte, uint32) error { return nil }
func (nothing) Unlink(uint32, []byte) error       { return nil }
func (nothing) Free(uint32) error                 { return nil }
func (nothing) Fence() error                      { return nil }
