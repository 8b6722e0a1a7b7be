package fs

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
)

// modelNode is an inode of the reference file system: plain memory.
type modelNode struct {
	mode    uint32
	data    []byte
	target  string
	xattrs  map[string]string
	entries map[string]*modelNode // of a directory
	// reserved are the pages that were allocated: writes there are not refused.
	reserved map[int]bool
	// states are those since the last fsync of the node that succeeded, the
	// current one last: after a crash the node is as one of them.
	states []string
}

func (n *modelNode) isDir() bool { return n.entries != nil }

// state is all of a node but where it is.
func (n *modelNode) state() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%o %q", n.mode, n.target)
	for _, k := range slices.Sorted(maps.Keys(n.xattrs)) {
		fmt.Fprintf(&b, " %s=%q", k, n.xattrs[k])
	}
	return b.String() + "\n" + string(n.data)
}

// model checks an Output against the reference.
type model struct {
	root  *modelNode
	store *storetest.Memory
	fault *storetest.Faulty
	o     *Output
	files map[*OutputFile]*modelNode
	// shapes are the trees of names since the last fsync that succeeded.
	shapes []map[string]*modelNode
	opts   OutputOptions
}

// shape returns every path of the tree.
func (m *model) shape() map[string]*modelNode {
	all := map[string]*modelNode{}
	var walk func(path string, n *modelNode)
	walk = func(path string, n *modelNode) {
		all[path] = n
		for name, c := range n.entries {
			walk(path+"/"+name, c)
		}
	}
	walk("", m.root)
	return all
}

// changed notes the state after an operation.
func (m *model) changed() {
	shape := m.shape()
	if len(m.shapes) == 0 || !maps.Equal(m.shapes[len(m.shapes)-1], shape) {
		m.shapes = append(m.shapes, shape)
	}
	nodes := slices.Collect(maps.Values(shape))
	for _, n := range m.files {
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if s := n.state(); len(n.states) == 0 || n.states[len(n.states)-1] != s {
			n.states = append(n.states, s)
		}
	}
}

// synced notes that all names, and node n, are durable.
func (m *model) synced(n *modelNode) {
	m.shapes = []map[string]*modelNode{m.shape()}
	if n != nil {
		n.states = []string{n.state()}
	}
}

func (m *model) dirs() (paths []string) {
	for path, n := range m.shape() {
		if n.isDir() {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func (m *model) all() []string { return slices.Sorted(maps.Keys(m.shape())) }

// inode finds a path in the Output.
func (m *model) inode(t *rapid.T, path string) uint32 {
	inode := uint32(format.RootInode)
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name == "" {
			continue
		}
		i, err := m.o.Lookup(inode, name)
		if err != nil {
			t.Fatalf("looking up %q: %v", path, err)
		}
		m.o.Forget(i.Inode, 1)
		inode = i.Inode
	}
	return inode
}

var modelNames = []string{"a", "b", "c", "long-" + strings.Repeat("n", 240)}

// place draws a directory and a name in it, which may be in use.
func (m *model) place(t *rapid.T) (d *modelNode, inode uint32, path, name string) {
	path = rapid.SampledFrom(m.dirs()).Draw(t, "dir")
	name = rapid.SampledFrom(modelNames).Draw(t, "name")
	return m.shape()[path], m.inode(t, path), path, name
}

func expect(t *rapid.T, err, want error) bool {
	t.Helper()
	if err != want {
		t.Fatalf("got error %v, want %v", err, want)
	}
	return err == nil
}

func (m *model) make(t *rapid.T) {
	d, dir, _, name := m.place(t)
	kind := rapid.SampledFrom([]uint32{format.ModeFile, format.ModeFile, format.ModeDir, format.ModeSymlink, format.ModeFifo}).Draw(t, "kind")
	what := New{Mode: kind | 0o644}
	n := &modelNode{mode: what.Mode}
	switch kind {
	case format.ModeDir:
		n.entries = map[string]*modelNode{}
		n.mode |= d.mode & 0o2000 // setgid is handed down
	case format.ModeSymlink:
		what.Target = "to/" + name
		n.target = what.Target
	}
	i, err := m.o.Make(dir, name, what)
	var want error
	if d.entries[name] != nil {
		want = syscall.EEXIST
	}
	if expect(t, err, want) {
		m.o.Forget(i.Inode, 1)
		d.entries[name] = n
		m.changed()
	}
}

func (m *model) link(t *rapid.T) {
	path := rapid.SampledFrom(m.all()).Draw(t, "old")
	n := m.shape()[path]
	inode := m.inode(t, path)
	d, dir, _, name := m.place(t)
	i, err := m.o.Link(inode, dir, name)
	var want error
	switch {
	case d.entries[name] != nil:
		want = syscall.EEXIST
	case n.isDir():
		want = syscall.EPERM
	}
	if expect(t, err, want) {
		m.o.Forget(i.Inode, 1)
		d.entries[name] = n
		m.changed()
	}
}

func (m *model) unlink(t *rapid.T) {
	d, dir, _, name := m.place(t)
	var want error
	switch n := d.entries[name]; {
	case n == nil:
		want = syscall.ENOENT
	case n.isDir() && len(n.entries) > 0:
		want = syscall.ENOTEMPTY
	}
	remove := m.o.Unlink
	if n := d.entries[name]; n != nil && n.isDir() {
		expect(t, m.o.Unlink(dir, name), syscall.EISDIR)
		remove = m.o.Rmdir
	}
	if expect(t, remove(dir, name), want) {
		delete(d.entries, name)
		m.changed()
	}
}

func (m *model) rename(t *rapid.T) {
	from, fromInode, fromPath, oldName := m.place(t)
	to, toInode, toPath, newName := m.place(t)
	flags := rapid.SampledFrom([]uint32{0, 0, RenameNoReplace, RenameExchange}).Draw(t, "flags")
	n, over := from.entries[oldName], to.entries[newName]
	below := func(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	var want error
	switch {
	case n == nil:
		want = syscall.ENOENT
	case flags == RenameExchange && over == nil:
		want = syscall.ENOENT
	case flags == RenameNoReplace && over != nil:
		want = syscall.EEXIST
	case n == over:
	case n.isDir() && below(toPath, fromPath+"/"+oldName):
		want = syscall.EINVAL
	case flags == RenameExchange && over.isDir() && below(fromPath, toPath+"/"+newName):
		want = syscall.EINVAL
	case flags != RenameExchange && over != nil && over.isDir() && !n.isDir():
		want = syscall.EISDIR
	case flags != RenameExchange && over != nil && n.isDir() && !over.isDir():
		want = syscall.ENOTDIR
	case flags != RenameExchange && over != nil && over.isDir() && len(over.entries) > 0:
		want = syscall.ENOTEMPTY
	}
	if !expect(t, m.o.Rename(fromInode, oldName, toInode, newName, flags), want) || n == over {
		return
	}
	if flags == RenameExchange {
		from.entries[oldName] = over
	} else {
		delete(from.entries, oldName)
	}
	to.entries[newName] = n
	m.changed()
}

func (m *model) setAttr(t *rapid.T) {
	path := rapid.SampledFrom(m.all()).Draw(t, "path")
	n, inode := m.shape()[path], m.inode(t, path)
	mode := uint32(rapid.IntRange(0, 0o7777).Draw(t, "mode"))
	if _, err := m.o.SetAttr(inode, Change{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	n.mode = n.mode&format.ModeType | mode
	name, value := rapid.SampledFrom([]string{"user.a", "user.b"}).Draw(t, "xattr"), rapid.StringN(0, 20, 60).Draw(t, "value")
	if err := m.o.SetXattr(inode, name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	if n.xattrs == nil {
		n.xattrs = map[string]string{}
	}
	n.xattrs[name] = value
	m.changed()
}

func (m *model) open(t *rapid.T) {
	if len(m.files) >= 8 {
		return
	}
	path := rapid.SampledFrom(m.all()).Draw(t, "path")
	n := m.shape()[path]
	f, err := m.o.Open(m.inode(t, path))
	switch n.mode & format.ModeType {
	case format.ModeFile:
		if expect(t, err, nil) {
			m.files[f] = n
		}
	case format.ModeDir:
		expect(t, err, syscall.EISDIR)
	default:
		expect(t, err, syscall.ENXIO)
	}
}

// file draws an open file, in the order of inode numbers so that a failing
// sequence repeats.
func (m *model) file(t *rapid.T) (*OutputFile, *modelNode) {
	if len(m.files) == 0 {
		t.Skip("no file is open")
	}
	open := slices.SortedFunc(maps.Keys(m.files), func(x, y *OutputFile) int {
		if x.n != y.n {
			return int(x.n.generation) - int(y.n.generation)
		}
		return int(x.seen) - int(y.seen)
	})
	f := rapid.SampledFrom(open).Draw(t, "file")
	return f, m.files[f]
}

// offset draws offsets near where pages, segments and objects meet.
func offset(t *rapid.T, label string) int {
	base := rapid.SampledFrom([]int{0, 0, 4096, 16_328, 40_000, 3 * 16_384, 120_000}).Draw(t, label)
	return max(0, base+rapid.IntRange(-300, 5000).Draw(t, label+"+"))
}

func (m *model) write(t *rapid.T) {
	f, n := m.file(t)
	off, length := offset(t, "off"), rapid.SampledFrom([]int{1, 100, 4096, 9000, 50_000}).Draw(t, "length")
	if rapid.Bool().Draw(t, "append") {
		off = len(n.data)
	}
	p := randomBytes(rapid.Uint64().Draw(t, "seed"), length)
	before := m.o.StatFS().Bytes
	got, err := f.WriteAt(ctx, p, int64(off))
	if !m.afforded(t, n, off, off+length, before, err) {
		return
	}
	if got != len(p) {
		t.Fatalf("wrote %d: %v", got, err)
	}
	n.data = grown(n.data, off+length)
	copy(n.data[off:], p)
	m.changed()
}

// afforded judges the answer of something that wants room from off to end of a
// file, with so many bytes in use before: it is refused only where the limit
// could be in the way, if all were data, and not all of it was allocated; and
// done only within the limit.
func (m *model) afforded(t *rapid.T, n *modelNode, off, end int, before uint64, err error) bool {
	t.Helper()
	limit := m.opts.MaxSize
	if err == nil {
		if now := m.o.StatFS().Bytes; limit > 0 && now > max(before, uint64(limit)) {
			t.Fatalf("%d bytes are in use of %d, and were %d", now, limit, before)
		}
		return true
	}
	most := int64(0)
	for other := range m.nodes() {
		size := len(other.data)
		if other == n {
			size = max(size, end)
		}
		pages := (size + pageSize - 1) / pageSize
		for page := range other.reserved {
			pages += min(1, max(0, page+1-pages)) // behind the end
		}
		most += int64(pages) * pageSize
	}
	if err != syscall.ENOSPC || limit == 0 || most <= limit || n.hasReserved(off, end) {
		t.Fatalf("%v, where all files are at most %d bytes of %d", err, most, limit)
	}
	return false
}

func (n *modelNode) hasReserved(off, end int) bool {
	for page := off / pageSize; page*pageSize < end; page++ {
		if !n.reserved[page] {
			return false
		}
	}
	return true
}

// reserve notes what fallocate did; a hole that reaches the end takes the last
// page too.
func (n *modelNode) reserve(mode uint32, off, end int) {
	if n.reserved == nil {
		n.reserved = map[int]bool{}
	}
	for page := off / pageSize; page*pageSize < end; page++ {
		if mode&allocPunchHole == 0 {
			n.reserved[page] = true
		} else {
			delete(n.reserved, page)
		}
	}
}

// accounts checks that what is in use is what the files count for.
func (m *model) accounts(t *rapid.T) {
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	total := int64(0)
	for _, n := range m.o.tree.nodes {
		if n.charged != n.held.bytes(0, maxFile) {
			t.Fatalf("inode %d counts for %d bytes, its pages for %d", n.inode, n.charged, n.held.bytes(0, maxFile))
		}
		total += n.charged
	}
	if total != m.o.used {
		t.Fatalf("%d bytes are in use, the files count for %d", m.o.used, total)
	}
}

// nodes returns those that have a name or are open.
func (m *model) nodes() map[*modelNode]bool {
	all := map[*modelNode]bool{}
	for _, n := range m.shape() {
		all[n] = true
	}
	for _, n := range m.files {
		all[n] = true
	}
	return all
}

// grown returns a copy of data, at least n bytes long.
func grown(data []byte, n int) []byte {
	c := make([]byte, max(n, len(data)))
	copy(c, data)
	return c
}

func (m *model) truncate(t *rapid.T) {
	f, n := m.file(t)
	size := offset(t, "size")
	if err := f.Truncate(uint64(size)); err != nil {
		t.Fatal(err)
	}
	if size <= len(n.data) {
		maps.DeleteFunc(n.reserved, func(page int, _ bool) bool { return page*pageSize >= size })
	}
	n.data = grown(n.data[:min(size, len(n.data))], size)
	m.changed()
}

func (m *model) punch(t *rapid.T) {
	f, n := m.file(t)
	off, length := offset(t, "off"), 1+offset(t, "length")
	mode := rapid.SampledFrom([]uint32{0, allocKeepSize, allocKeepSize | allocPunchHole, allocZeroRange, allocKeepSize | allocZeroRange}).Draw(t, "mode")
	before := m.o.StatFS().Bytes
	err := f.Allocate(mode, int64(off), int64(length))
	if !m.afforded(t, n, off, off+length, before, err) {
		return
	}
	n.reserve(mode, off, off+length)
	n.data = grown(n.data, 0)
	if mode&allocKeepSize == 0 {
		n.data = grown(n.data, off+length)
	}
	if mode&(allocPunchHole|allocZeroRange) != 0 && off < len(n.data) {
		clear(n.data[off:min(off+length, len(n.data))])
	}
	m.changed()
}

// refuse tries the modes of fallocate(2) that there are not: collapse and
// insert range, and a hole that would set the size.
func (m *model) refuse(t *rapid.T) {
	f, _ := m.file(t)
	mode := rapid.SampledFrom([]uint32{allocPunchHole, allocPunchHole | allocKeepSize | allocZeroRange, allocPunchHole | 8, allocPunchHole | 32}).Draw(t, "mode")
	expect(t, f.Allocate(mode, int64(offset(t, "off")), 4096), syscall.EOPNOTSUPP)
	expect(t, f.Allocate(0, 0, 0), syscall.EINVAL)
}

// tmpfile is O_TMPFILE: a file without a name.
func (m *model) tmpfile(t *rapid.T) {
	if len(m.files) >= 8 {
		return
	}
	dir := m.inode(t, rapid.SampledFrom(m.dirs()).Draw(t, "dir"))
	i, err := m.o.MakeUnnamed(dir, New{Mode: format.ModeFile | 0o600})
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.o.Open(i.Inode)
	if err != nil {
		t.Fatal(err)
	}
	m.o.Forget(i.Inode, 1)
	m.files[f] = &modelNode{mode: format.ModeFile | 0o600}
	m.changed()
}

// linkOpen gives an open file a name: its first, another, or one again.
func (m *model) linkOpen(t *rapid.T) {
	f, n := m.file(t)
	d, dir, _, name := m.place(t)
	i, err := m.o.Link(f.Inode(), dir, name)
	var want error
	if d.entries[name] != nil {
		want = syscall.EEXIST
	}
	if expect(t, err, want) {
		m.o.Forget(i.Inode, 1)
		d.entries[name] = n
		m.changed()
	}
}

func (m *model) read(t *rapid.T) {
	f, n := m.file(t)
	off := offset(t, "off")
	p := make([]byte, 60_000)
	got, err := f.ReadAt(ctx, p, int64(off))
	if err != nil {
		t.Fatal(err)
	}
	if want := n.data[min(off, len(n.data)):min(off+len(p), len(n.data))]; !bytes.Equal(p[:got], want) {
		t.Fatalf("reading %d bytes at %d: differ (%d bytes, want %d)", len(p), off, got, len(want))
	}
}

// seek checks that what SEEK_HOLE calls a hole is zeros and that data and
// holes take turns.
func (m *model) seek(t *rapid.T) {
	f, n := m.file(t)
	for off := int64(0); off < int64(len(n.data)); {
		data, err := f.Lseek(off, SeekData)
		if err == syscall.ENXIO {
			data = int64(len(n.data))
		} else if err != nil {
			t.Fatal(err)
		}
		if bytes.Trim(n.data[off:data], "\x00") != nil && len(bytes.Trim(n.data[off:data], "\x00")) > 0 {
			t.Fatalf("a hole from %d to %d has data", off, data)
		}
		if data == int64(len(n.data)) {
			return
		}
		hole, err := f.Lseek(data, SeekHole)
		if err != nil || hole <= data {
			t.Fatalf("the hole behind %d is at %d, %v", data, hole, err)
		}
		off = hole
	}
}

func (m *model) fsync(t *rapid.T) {
	f, n := m.file(t)
	failing := len(m.fault.Faults) > 0
	err := f.Sync(ctx)
	switch {
	case err == nil:
		m.synced(n)
	case !failing:
		// A failure before this one is told once, and may be told now.
		if err := f.Sync(ctx); err != nil {
			t.Fatalf("fsync with nothing failing: %v", err)
		}
		m.synced(n)
	}
}

func (m *model) fsyncDir(t *rapid.T) {
	path := rapid.SampledFrom(m.dirs()).Draw(t, "dir")
	failing := len(m.fault.Faults) > 0
	err := m.o.SyncDir(ctx, m.inode(t, path))
	if err == nil {
		m.synced(m.shape()[path])
	} else if !failing {
		t.Fatal(err)
	}
}

// breakStore has puts fail from now on, with or without effect, until mendStore.
func (m *model) breakStore(t *rapid.T) {
	f := storetest.Fault{Op: storetest.Put, Name: rapid.SampledFrom([]string{"", "data/", "journal/"}).Draw(t, "names")}
	f.From = rapid.IntRange(1, 3).Draw(t, "from")
	if rapid.Bool().Draw(t, "lost") {
		f.Lost = storetest.Away
	} else {
		f.Err = storetest.Away
	}
	m.fault.Reset(f)
}

func (m *model) mendStore(t *rapid.T) { m.fault.Reset() }

func (m *model) release(t *rapid.T) {
	f, _ := m.file(t)
	f.Release()
	delete(m.files, f)
}

func (m *model) reopen(t *rapid.T) {
	m.fault.Reset()
	if _, err := m.o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	if m.o.Recovered() != nil {
		t.Fatalf("recovered %+v after Close", m.o.Recovered())
	}
	m.compare(t)
	m.synced(nil)
	for _, n := range m.shape() {
		n.states, n.reserved = []string{n.state()}, nil
	}
}

func (m *model) start(t *rapid.T) {
	m.files = map[*OutputFile]*modelNode{}
	o, err := OpenOutput(ctx, m.fault, testKey, m.opts)
	if err != nil {
		t.Fatal(err)
	}
	m.o = o
}

// compare checks the whole tree.
func (m *model) compare(t *rapid.T) {
	got := m.observe(t)
	want := m.shape()
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Fatalf("the tree has %q, want %q", a, b)
	}
	for path, n := range want {
		if got[path].state() != n.state() {
			t.Fatalf("%q differs", path)
		}
	}
	if !sameIdentity(got, want) {
		t.Fatal("hard links are not those that were made")
	}
}

// sameIdentity reports whether paths share an inode here exactly where they do
// there. Both have the same paths.
func sameIdentity(got, want map[string]*modelNode) bool {
	there, here := map[*modelNode]*modelNode{}, map[*modelNode]*modelNode{}
	for path, g := range got {
		w := want[path]
		if x, ok := there[g]; ok && x != w {
			return false
		}
		if x, ok := here[w]; ok && x != g {
			return false
		}
		there[g], here[w] = w, g
	}
	return true
}

// observe reads the whole Output into a tree of its own, and checks link
// counts on the way.
func (m *model) observe(t *rapid.T) map[string]*modelNode {
	got := map[string]*modelNode{}
	nodes := map[uint32]*modelNode{}
	names := map[uint32]uint32{}
	infos := map[uint32]Info{}
	var walk func(path string, inode uint32)
	walk = func(path string, inode uint32) {
		names[inode]++
		if n := nodes[inode]; n != nil {
			got[path] = n
			return
		}
		n := m.observeNode(t, inode)
		nodes[inode], got[path] = n, n
		infos[inode], _ = m.o.GetAttr(inode)
		if n.mode&format.ModeType != format.ModeDir {
			return
		}
		n.entries = map[string]*modelNode{}
		var entries []DirEntry
		if err := m.o.ReadDir(inode, 0, func(e DirEntry) bool { entries = append(entries, e); return true }); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			walk(path+"/"+e.Name, e.Inode)
			n.entries[e.Name] = nodes[e.Inode]
		}
	}
	walk("", format.RootInode)
	for inode, n := range nodes {
		want := names[inode]
		if n.isDir() {
			want = 2
			for _, c := range n.entries {
				if c.isDir() {
					want++
				}
			}
		}
		if infos[inode].Attr.Nlink != want {
			t.Fatalf("inode %d has %d links, want %d", inode, infos[inode].Attr.Nlink, want)
		}
	}
	return got
}

func (m *model) observeNode(t *rapid.T, inode uint32) *modelNode {
	i, err := m.o.GetAttr(inode)
	if err != nil {
		t.Fatal(err)
	}
	n := &modelNode{mode: i.Attr.Mode}
	names, err := m.o.ListXattr(inode)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		value, err := m.o.GetXattr(inode, name)
		if err != nil {
			t.Fatal(err)
		}
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[name] = string(value)
	}
	switch i.Attr.Type() {
	case format.ModeSymlink:
		target, err := m.o.Readlink(inode)
		if err != nil {
			t.Fatal(err)
		}
		n.target = string(target)
	case format.ModeFile:
		f, err := m.o.Open(inode)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Release()
		n.data = make([]byte, i.Attr.Size)
		if got, err := f.ReadAt(ctx, n.data, 0); err != nil || got != len(n.data) {
			t.Fatalf("reading inode %d: %d of %d bytes, %v", inode, got, len(n.data), err)
		}
	}
	return n
}

// crash drops the Output as kill -9 does and opens what the store has: every
// fsync that returned nil holds, and all else is as it once was.
func (m *model) crash(t *rapid.T) {
	m.o.kill()
	m.fault.Reset()
	m.start(t)
	got := m.observe(t)
	var matched map[string]*modelNode
	for _, shape := range slices.Backward(m.shapes) {
		if fits(got, shape) {
			matched = shape
			break
		}
	}
	if matched == nil {
		for path, n := range got {
			t.Logf("got %q %o %d bytes", path, n.mode, len(n.data))
		}
		for path, n := range m.shapes[0] {
			t.Logf("synced %q %o %d bytes of %d states", path, n.mode, len(n.data), len(n.states))
		}
		t.Fatalf("after the crash the tree is none of the %d since the last fsync", len(m.shapes))
	}
	m.root = got[""]
	m.shapes = nil
	m.changed()
	m.synced(nil)
}

// fits reports whether the tree has the names of shape, and each node a state
// that it had since its last fsync.
func fits(got, shape map[string]*modelNode) bool {
	if len(got) != len(shape) {
		return false
	}
	for path, n := range shape {
		g := got[path]
		if g == nil || !slices.Contains(n.states, g.state()) {
			return false
		}
	}
	return sameIdentity(got, shape)
}

// TestOutputModel runs random operations against the reference, with closes,
// crashes and a failing store among them.
func TestOutputModel(t *testing.T) { runModel(t, true) }

// TestOutputModelBackground is the same with commits at any time.
func TestOutputModelBackground(t *testing.T) { runModel(t, false) }

func runModel(t *testing.T, noBackground bool) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{root: &modelNode{mode: format.ModeDir | 0o755, entries: map[string]*modelNode{}}, store: &storetest.Memory{}}
		m.fault = &storetest.Faulty{Store: m.store}
		m.opts = OutputOptions{Create: true, noBackground: noBackground, MaxSize: rapid.SampledFrom([]int64{0, 0, 60_000, 300_000}).Draw(t, "max size")}
		m.start(t)
		m.changed()
		m.synced(m.root)
		defer func() { m.o.kill() }()
		steps := map[string]func(*rapid.T){
			"make": m.make, "make2": m.make, "link": m.link, "unlink": m.unlink, "rename": m.rename, "setattr": m.setAttr,
			"open": m.open, "open2": m.open, "write": m.write, "write2": m.write, "write3": m.write, "truncate": m.truncate, "punch": m.punch, "refuse": m.refuse, "tmpfile": m.tmpfile, "tmpfile2": m.tmpfile, "linkopen": m.linkOpen,
			"read": m.read, "seek": m.seek, "fsync": m.fsync, "fsync2": m.fsync, "fsyncdir": m.fsyncDir, "release": m.release,
			"break": m.breakStore, "mend": m.mendStore, "mend2": m.mendStore, "reopen": m.reopen, "crash": m.crash,
			"stage": func(*rapid.T) { m.o.stageAll() }, "": m.accounts,
		}
		t.Repeat(steps)
		m.compare(t)
	})
}

// stageAll has all dirty data staged, as a lack of memory would.
func (o *Output) stageAll() {
	o.mu.Lock()
	limit := o.limit
	o.limit = 0
	o.hungry = true
	o.kick()
	o.mu.Unlock()
	// A stage is over when the flusher takes the next waiter.
	_ = o.sync(ctx, &node{})
	o.mu.Lock()
	o.limit = limit
	o.mu.Unlock()
}
