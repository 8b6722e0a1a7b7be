package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"cloister/internal/vectors"
)

// ---- preambles, §5

func preambleVectors() (all []vectors.Vector) {
	record := vectorPreamble()
	record.Kind, record.Sequence, record.Stanzas = KindRecord, 3, fixed(70, "stanzas")
	manifest := vectorPreamble()
	manifest.Suite = Suite64K
	for _, c := range []struct {
		name string
		p    Preamble
	}{{"manifest", manifest}, {"record-with-stanzas", record}} {
		v := accepted(c.name, "§5 the preamble")
		v.Set("preamble", "%s", preambleText(c.p)).Body = append(c.p.append(nil), "the stream"...)
		all = append(all, v)
	}
	change := func(i int, b ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[i:], b); return p }
	}
	for _, c := range []struct {
		name, rule, says string
		change           func([]byte) []byte
	}{
		{"magic", "§5 it begins with CLOISTER", "does not begin with", change(0, 'c')},
		{"version-2", "§5 version 1", "of format version 2", change(8, 2)},
		{"version-256", "§5 version is a u16", "of format version 257", change(9, 1)},
		{"suite-0", "§4 suites", "suite 0 is not known", change(10, 0)},
		{"suite-3", "§4 suites", "suite 3 is not known", change(10, 3)},
		{"kind-data", "§5 kind: 2 or 3", "kind 1 has no preamble", change(11, 1)},
		{"key-version-0", "§5 key versions from 1", "key version 0 and epoch 7", change(12, 0)},
		{"epoch-0", "§5 epochs from 1", "key version 2 and epoch 0", change(48, 0)},
		{"manifest-with-a-sequence", "§5 sequence: 0 for a manifest", "sequence 1 does not fit kind 2", change(56, 1)},
		{"record-without-a-sequence", "§5 sequence: from 1", "sequence 0 does not fit kind 3", change(11, 3)},
		{"stanzas-beyond-the-end", "§5 stanzas", "stanzas of 1 bytes are too long", change(128, 1)},
		{"stanzas-beyond-64-kib", "§1 stanzas of at most 64 KiB", "stanzas of 65537 bytes are too long", func(p []byte) []byte {
			return append(change(128, 1, 0, 1)(p), make([]byte, 64<<10+1)...)
		}},
		{"cut", "§5 132 bytes", "does not begin with", func(p []byte) []byte { return p[:131] }},
		{"empty", "§5 132 bytes", "does not begin with", func(p []byte) []byte { return nil }},
	} {
		p := vectorPreamble()
		v := refused(c.name, c.rule, "malformed", c.says)
		v.Body = c.change(p.append(nil))
		all = append(all, v)
	}
	return all
}

func preambleText(p Preamble) string {
	return fmt.Sprintf("suite %d, kind %d, key version %d, volume %s, run %s, epoch %d, sequence %d, previous %s, check %s, stanzas %x",
		p.Suite, p.Kind, p.KeyVersion, p.Volume, p.Run, p.Epoch, p.Sequence, p.Previous, p.Check, p.Stanzas)
}

func TestPreambleVectors(t *testing.T) {
	vectors.Compare(t, "preamble", preambleVectors())
	for _, v := range vectors.Load(t, "preamble") {
		p, size, err := ParsePreamble(v.Body)
		if err == nil && (preambleText(p) != v.Get("preamble") || size != len(v.Body)-len("the stream")) {
			t.Errorf("%s: parses as %s, %d bytes", v.Name, preambleText(p), size)
		}
		check(t, &v, err)
	}
}

// ---- journal records, §7

// op frames an operation.
func op(kind, flags uint16, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	framed := le.AppendUint16(nil, kind)
	framed = le.AppendUint16(framed, flags)
	return append(le.AppendUint32(framed, uint32(len(b))), b...)
}

func u32(v ...uint32) (b []byte) {
	for _, n := range v {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// record returns operations with their end.
func record(ops ...[]byte) []byte { return append(bytes.Join(ops, nil), make([]byte, 8)...) }

var (
	keyEntry    = appendKey(nil, Key{Key: fixedObjectKey(), Origin: vectorVolume, Slot: 4, Suite: Suite64K})
	objectEntry = appendObject(nil, Object{ID: ObjectID(fixed(16, "object")), Header: fixedHeader("record"), SealedLen: 57})
	free7       = op(6, 1, u32(7))
)

func inodeEntry(mode uint32, size uint64) []byte {
	b := make([]byte, 64)
	le.PutUint32(b, mode)
	le.PutUint64(b[16:], size)
	return b
}

func recordVectors() (all []vectors.Vector) {
	add := func(v vectors.Vector, ops []byte) {
		p := vectorPreamble()
		p.Kind, p.Sequence = KindRecord, 3
		v.Set("dek", "%x", vectorDEK().b)
		v.Body, _ = p.seal(vectorDEK(), fixedHeader("record "+v.Name), ops)
		all = append(all, v)
	}
	extent := appendExtent(nil, Extent{0, 0, 0, 1})
	attrs := appendXattrs(nil, []Xattr{{"user.a", []byte("x")}})
	v := accepted("every-operation", "§7 all of it")
	for _, line := range []string{
		"key " + vectorVolume.String() + " 4", "object " + ObjectID(fixed(16, "object")).String() + " 57",
		`inode 2 100644 [{0 0 0 1}] "" [{user.a [120]}]`, `inode 3 120777 [] "to" []`,
		`link 1 "f\xff" 2`, `unlink 1 "old"`, "free 7", "fence",
	} {
		v.Set("operation", "%s", line)
	}
	add(v, record(op(1, 1, keyEntry), op(2, 1, objectEntry),
		op(3, 1, u32(2, 1, 0, uint32(len(attrs))), inodeEntry(ModeFile|0o644, 1), extent, attrs),
		op(3, 1, u32(3, 0, 2, 0), inodeEntry(ModeSymlink|0o777, 2), []byte("to")),
		op(4, 1, u32(1, 2), []byte("f\xff")), op(5, 1, u32(1), []byte("old")), free7, op(7, 1)))
	empty := accepted("no-operation", "§7 a record may say nothing")
	add(empty, record())
	v = accepted("unknown-operation", "§7 an unknown operation that is not critical is skipped")
	add(*v.Set("operation", "free 7"), record(op(99, 0, []byte("?")), free7))
	for _, c := range []struct {
		name, rule, says string
		ops              []byte
	}{
		{"unknown-critical-operation", "§7 an unknown critical operation is refused", "operation 99 with 1 bytes", record(free7, op(99, 1, []byte("?")))},
		{"reserved-flag", "§7 only flag bit 0 is used", "operation 6", record(free7, op(6, 3, u32(7)))},
		{"no-end", "§7 operations are ended by op 0", "the record has no end", free7},
		{"operation-beyond-the-end", "§7 operations lie in the record", "operation 6 is 200 bytes long", record(free7, []byte{6, 0, 1, 0, 200, 0, 0, 0})},
		{"padding-not-zeros", "§4 padding is zeros", "the record's padding is not zeros", append(record(free7), 1)},
		{"end-with-a-body", "§7 op 0 has no body", "the record's padding is not zeros", record(free7, op(0, 0, []byte{1}))},
		{"key-short", "§7 key: one entry", "operation 1 with 55 bytes", record(free7, op(1, 1, keyEntry[:55]))},
		{"key-suite", "§6 key: a suite of §4", "operation 1 with 56 bytes", record(free7, op(1, 1, keyEntry[:52], []byte{9, 0, 0, 0}))},
		{"key-reserved", "§6 key: 3 zero bytes", "operation 1 with 56 bytes", record(free7, op(1, 1, keyEntry[:55], []byte{1}))},
		{"object-long", "§7 object: one entry", "operation 2 with 73 bytes", record(free7, op(2, 1, objectEntry, []byte{0}))},
		{"inode-short", "§7 inode", "operation 3 with 79 bytes", record(free7, op(3, 1, u32(2, 0, 0, 0), inodeEntry(ModeFile, 0)[:63]))},
		{"inode-0", "§7 inode: its number is from 1", "inode operation for 0", record(free7, op(3, 1, u32(0, 0, 0, 0), inodeEntry(ModeFile, 0)))},
		{"inode-beyond-2-28", "§1 at most 2^28 inodes", "inode operation for 268435457", record(free7, op(3, 1, u32(1<<28+1, 0, 0, 0), inodeEntry(ModeFile, 0)))},
		{"inode-extents-missing", "§7 inode: as many extents as it says", "inode operation for 2 with 80 bytes", record(free7, op(3, 1, u32(2, 1<<31, 0, 0), inodeEntry(ModeFile, 1)))},
		{"inode-lengths-wrap", "§7 inode: lengths do not wrap", "inode operation for 2 with 80 bytes", record(free7, op(3, 1, u32(2, 0, 1<<31, 1<<31), inodeEntry(ModeFile, 1)))},
		{"inode-attributes-end-early", "§7 inode: attributes", "inode operation for 2 has wrong extended attributes", record(free7, op(3, 1, u32(2, 0, 0, 3), inodeEntry(ModeFile, 0), attrs[:3]))},
		{"inode-attributes-go-on", "§7 inode: attributes", "inode operation for 2 has wrong extended attributes", record(free7, op(3, 1, u32(2, 0, 0, uint32(len(attrs)+1)), inodeEntry(ModeFile, 0), attrs, []byte{0}))},
		{"link-without-a-name", "§1 a name has 1 to 255 bytes", "operation 4 with 8 bytes", record(free7, op(4, 1, u32(1, 2)))},
		{"link-dot-dot", "§1 no entry is named ..", "operation 4 with 10 bytes", record(free7, op(4, 1, u32(1, 2), []byte("..")))},
		{"link-name-of-256-bytes", "§1 a name has 1 to 255 bytes", "operation 4 with 264 bytes", record(free7, op(4, 1, u32(1, 2), bytes.Repeat([]byte("n"), 256)))},
		{"unlink-slash", "§1 names have no /", "operation 5 with 7 bytes", record(free7, op(5, 1, u32(1), []byte("a/b")))},
		{"free-long", "§7 free: one inode", "operation 6 with 8 bytes", record(free7, op(6, 1, u32(7, 8)))},
		{"fence-with-a-body", "§7 fence: no body", "operation 7 with 1 bytes", record(free7, op(7, 1, []byte{0}))},
	} {
		add(refused(c.name, c.rule, "malformed", c.says), c.ops)
	}
	return append(all, sealedRecordVectors()...)
}

func sealedRecordVectors() (all []vectors.Vector) {
	for _, c := range []struct {
		name, rule, class, says string
		change                  func(b []byte) []byte
	}{
		{"preamble-exchanged", "§4 the stream is sealed under a digest of its preamble", "authentication", "opening record 4 of epoch 7", func(b []byte) []byte { b[56]++; return b }},
		{"bit-flipped", "§7 a record opens", "authentication", "opening record 3 of epoch 7", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"cut", "§7 a record opens", "authentication", "opening record 3 of epoch 7", func(b []byte) []byte { return b[:len(b)-1] }},
		{"check-value-of-another-dek", "§8 step 2: the check value comes first", "wrong-key", "not this volume's", func(b []byte) []byte { b[96]++; return b }},
		{"a-manifest-in-its-place", "§5 kind 3", "malformed", "a manifest is in the place of a journal record", func(b []byte) []byte { b[11], b[56] = 2, 0; return b }},
	} {
		p := vectorPreamble()
		p.Kind, p.Sequence = KindRecord, 3
		v := refused(c.name, c.rule, c.class, c.says)
		v.Set("dek", "%x", vectorDEK().b)
		sealed, _ := p.seal(vectorDEK(), fixedHeader("record "+c.name), record(free7))
		v.Body = c.change(sealed)
		all = append(all, v)
	}
	return all
}

func TestRecordVectors(t *testing.T) {
	vectors.Compare(t, "record", recordVectors())
	for _, v := range vectors.Load(t, "record") {
		dek, err := DEKFromBytes(v.Hex(t, "dek"))
		if err != nil {
			t.Fatal(err)
		}
		var told trace
		_, _, ops, err := OpenRecord(bytes.Clone(v.Body), dek)
		if err == nil {
			err = ReplayRecord(ops, &told)
		}
		if err != nil && len(told) > 0 {
			t.Errorf("%s: refused after applying %v: a record applies whole or not at all", v.Name, told)
		}
		if err == nil {
			sameLines(t, &v, "operation", told)
		}
		check(t, &v, err)
	}
}

// ---- journals, §7: what package fs recovers, see fs/vectors_test.go

// journal is the objects of a store: records chained one after the other.
type journal struct {
	v        vectors.Vector
	run      byte
	epoch    uint64
	sequence uint64
	previous Digest
}

// put adds an object under a name.
func (j *journal) put(name string, sealed []byte) {
	j.v.Set("object", "%s %d", name, len(sealed))
	j.v.Body = append(j.v.Body, sealed...)
}

// seal seals the next record of the chain.
func (j *journal) seal(change func(*Preamble), ops ...[]byte) []byte {
	j.sequence++
	p := Preamble{Suite: Suite16K, Kind: KindRecord, KeyVersion: 1, Volume: vectorVolume, Run: RunID{j.run}, Epoch: j.epoch, Sequence: j.sequence, Previous: j.previous}
	if change != nil {
		change(&p)
	}
	sealed, digest := p.seal(vectorDEK(), fixedHeader(fmt.Sprintf("journal %s %d", j.v.Name, j.sequence)), record(ops...))
	j.previous = digest
	return sealed
}

func (j *journal) record(ops ...[]byte) *journal {
	sealed := j.seal(nil, ops...)
	j.put(RecordName(j.epoch, j.sequence), sealed)
	return j
}

// manifest puts the manifest of the epoch before: an empty root.
func (j *journal) manifest() *journal {
	b := new(Builder)
	b.AddNode(1, Node{Attr: Attr{Mode: ModeDir | 0o755}})
	plain, err := b.Finish()
	if err != nil {
		panic(err)
	}
	p := Preamble{Suite: Suite16K, Kind: KindManifest, KeyVersion: 1, Volume: vectorVolume, Run: RunID{9}, Epoch: j.epoch}
	sealed, digest := p.seal(vectorDEK(), fixedHeader("journal "+j.v.Name), plain)
	j.put(ManifestName(j.epoch), sealed)
	j.epoch, j.previous = j.epoch+1, digest
	return j
}

var (
	rootOp  = op(3, 1, u32(1, 0, 0, 0), inodeEntry(ModeDir|0o755, 0))
	emptyOp = op(3, 1, u32(2, 0, 0, 0), inodeEntry(ModeFile|0o600, 0))
	linkOp  = op(4, 1, u32(1, 2), []byte("empty"))
	keyOp   = op(1, 1, appendKey(nil, Key{Key: fixedObjectKey(), Origin: vectorVolume, Suite: Suite16K}))
	fenceOp = op(7, 1)
	begin   = [][]byte{keyOp, rootOp}
)

func journalVectors() (all []vectors.Vector) {
	add := func(v vectors.Vector, build func(j *journal), names ...string) {
		j := &journal{v: v, run: 1, epoch: 1}
		j.v.Set("dek", "%x", vectorDEK().b)
		for _, name := range names {
			j.v.Set("name", "%s", name)
		}
		build(j)
		all = append(all, j.v)
	}
	add(accepted("two-records", "§7 recovery applies records in sequence"), func(j *journal) { j.record(begin...).record(emptyOp, linkOp) }, "empty")
	add(accepted("on-a-manifest", "§7 the first record follows the manifest it builds on"), func(j *journal) { j.manifest().record(keyOp).record(emptyOp, linkOp) }, "empty")
	add(accepted("fenced", "§7 a fence is the last record of a run"), func(j *journal) { j.record(begin...).record(emptyOp, linkOp).record(fenceOp) }, "empty")
	add(accepted("inode-without-a-name", "§7 an inode that no name leads to is dropped"), func(j *journal) { j.record(begin...).record(emptyOp) })
	for _, c := range []struct {
		name, rule, class, says string
		build                   func(j *journal)
	}{
		{"gap", "§7 a record beyond a gap is refused", "refused", "record 2, before record 3, is missing", func(j *journal) {
			j.record(begin...)
			j.seal(nil, emptyOp)
			j.record(linkOp)
		}},
		{"first-record-missing", "§7 a record beyond a gap is refused", "refused", "record 1 is missing", func(j *journal) {
			j.seal(nil, begin...)
			j.record(emptyOp)
		}},
		{"chain-broken", "§7 a record names the digest of the one before", "malformed", "record 2: not a well-formed Cloister volume: it does not follow the one before it", func(j *journal) {
			j.record(begin...)
			j.put(RecordName(1, 2), j.seal(func(p *Preamble) { p.Previous[0] ^= 1 }, emptyOp, linkOp))
		}},
		{"on-another-manifest", "§7 the first record names the manifest it builds on", "malformed", "record 1: not a well-formed Cloister volume: it does not follow the one before it", func(j *journal) {
			j.manifest()
			j.previous[0] ^= 1
			j.record(keyOp)
		}},
		{"of-another-epoch", "§7 a record is of the epoch its name says", "malformed", "record 2: not a well-formed Cloister volume: it is record 2 of epoch 2", func(j *journal) {
			j.record(begin...)
			j.put(RecordName(1, 2), j.seal(func(p *Preamble) { p.Epoch = 2 }, emptyOp, linkOp))
		}},
		{"of-another-sequence", "§7 a record has the sequence its name says", "malformed", "it is record 3 of epoch 1", func(j *journal) {
			j.record(begin...)
			j.put(RecordName(1, 2), j.seal(func(p *Preamble) { p.Sequence = 3 }, emptyOp, linkOp))
		}},
		{"of-another-volume", "§7 a record is of the journal's volume", "malformed", "it is record 2 of epoch 1 of volume", func(j *journal) {
			j.record(begin...)
			j.put(RecordName(1, 2), j.seal(func(p *Preamble) { p.Volume[0]++ }, emptyOp, linkOp))
		}},
		{"does-not-open", "§7 a record that is there opens", "authentication", "record 2 of epoch 1", func(j *journal) {
			j.record(begin...)
			sealed := j.seal(nil, emptyOp, linkOp)
			sealed[len(sealed)-1] ^= 1
			j.put(RecordName(1, 2), sealed)
		}},
		{"after-a-fence", "§7 the run before a fence writes no more", "malformed", "wrote it behind its fence", func(j *journal) {
			j.record(begin...).record(fenceOp).record(emptyOp, linkOp)
		}},
		{"unknown-critical-operation", "§7 an unknown critical operation is refused", "malformed", "operation 99", func(j *journal) {
			j.record(begin...).record(op(99, 1))
		}},
		{"link-to-no-inode", "§7 a link names an inode", "malformed", "names inode 2 in 1", func(j *journal) { j.record(begin...).record(linkOp) }},
		{"link-in-a-file", "§7 a link is in a directory", "malformed", "names inode 2 in 2", func(j *journal) {
			j.record(begin...).record(emptyOp, linkOp, op(4, 1, u32(2, 2), []byte("x")))
		}},
		{"unlink-of-nothing", "§7 an unlink removes an entry", "malformed", `removes "empty" from 1`, func(j *journal) {
			j.record(begin...).record(op(5, 1, u32(1), []byte("empty")))
		}},
		{"free-of-nothing", "§7 a free frees an inode", "malformed", "frees inode 7", func(j *journal) { j.record(begin...).record(free7) }},
		{"free-of-the-root", "§6 inode 1 is the root", "malformed", "frees inode 1", func(j *journal) { j.record(begin...).record(op(6, 1, u32(1))) }},
		{"root-a-file", "§6 inode 1 is the root", "malformed", "makes directory 1 something else", func(j *journal) {
			j.record(begin...).record(op(3, 1, u32(1, 0, 0, 0), inodeEntry(ModeFile, 0)))
		}},
		{"object-of-no-key", "§6 object: its key is in the table", "malformed", "with key 5", func(j *journal) {
			entry := bytes.Clone(objectEntry)
			set32(entry[64:], 5)
			j.record(begin...).record(op(2, 1, entry))
		}},
		{"extent-of-no-object", "§6 extents name objects in the table", "malformed", "an extent in object 3", func(j *journal) {
			j.record(begin...).record(op(3, 1, u32(2, 1, 0, 0), inodeEntry(ModeFile, 1), appendExtent(nil, Extent{0, 3, 0, 1})), linkOp)
		}},
	} {
		add(refused(c.name, c.rule, c.class, c.says), c.build)
	}
	return all
}

func TestJournalVectors(t *testing.T) {
	vectors.Compare(t, "journal", journalVectors())
	for _, v := range vectors.Load(t, "journal") {
		if len(v.All("object")) == 0 || !strings.Contains(v.Get("object"), JournalPrefix) {
			t.Errorf("%s holds no journal", v.Name)
		}
	}
}
