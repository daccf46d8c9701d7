package volumetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/frame"
	"github.com/bowline-net/bowline/internal/volume/fsys"
)

// A Suite is run by the test of each back-end.
type Suite struct {
	Kind string                           // of the back-end
	Disk func(t testing.TB) string        // mounts a file system for a pool
	Open func(root string) volume.Backend // the back-end of the pool at root
	// Sizes: volumes can be limited. Atomic: a snapshot is of one moment.
	Sizes, Atomic bool
	// Seal makes the inner checksums of a stream right again; nil: it has none.
	Seal func(stream []byte)
}

// Run runs the suite, each test on pools of its own.
func (s Suite) Run(t *testing.T) {
	netnstest.RequireRoot(t)
	// Two disks for all tests but those that stop one: making them is most of the time.
	a, b := s.Disk(t), s.Disk(t)
	if kind, err := fsys.Kind(a); err != nil || kind != s.Kind {
		t.Fatalf("the best back-end for this file system is %q, %v; want %q", kind, err, s.Kind)
	}
	for name, f := range map[string]func(p *pair){
		"life": life, "fidelity": fidelity, "snapshots": snapshots, "increments": increments, "damage": damage,
		"hostile": hostile, "interrupted": interrupted, "sockets": sockets, "sizes": sizes, "in use": inUse, "many bases": manyBases,
	} {
		t.Run(name, func(t *testing.T) {
			p := &pair{T: t, suite: s, ctx: t.Context()}
			p.a, p.b = p.pool(a, name), p.pool(b, name)
			f(p)
		})
	}
	t.Run("freeze", func(t *testing.T) { freeze(&pair{T: t, suite: s, ctx: t.Context()}, a) })
}

// A pair is two pools, on two disks.
type pair struct {
	*testing.T
	suite Suite
	ctx   context.Context
	a, b  volume.Backend
}

// pool makes a pool in a directory of the disk.
func (p *pair) pool(disk, name string) volume.Backend {
	dir := filepath.Join(disk, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		p.Fatal(err)
	}
	b := p.suite.Open(dir)
	p.Cleanup(func() { // what is left is in nobody's way, but for its room
		for _, name := range []string{"v", "w", "x"} {
			if err := b.Delete(context.Background(), name); err != nil {
				p.Error(err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			p.Errorf("left in the pool: %v, %v", left, err)
		}
	})
	return b
}

func (p *pair) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// mustBe fails the test unless err wraps want.
func (p *pair) mustBe(what string, err, want error) {
	p.Helper()
	if !errors.Is(err, want) {
		p.Errorf("%s: %v, want %v", what, err, want)
	}
}

// snap takes a snapshot of v in pool a.
func (p *pair) snap(name string) volume.Snapshot {
	p.Helper()
	s, err := p.a.Snapshot(p.ctx, "v", name)
	p.must(err)
	return s
}

// stream returns what a sends.
func (p *pair) stream(d volume.Delta) []byte {
	p.Helper()
	var buf bytes.Buffer
	w, err := frame.NewWriter(&buf, frame.Head{Kind: p.a.Kind(), Volume: "v", Delta: d})
	p.must(err)
	p.must(p.a.Send(p.ctx, "v", d, w))
	p.must(w.Close())
	return buf.Bytes()
}

// receive has b receive a stream.
func (p *pair) receive(d volume.Delta, stream []byte) error {
	r, _, err := frame.NewReader(bytes.NewReader(stream))
	if err != nil {
		return err
	}
	return p.b.Receive(p.ctx, "v", d, r)
}

// transfer brings a snapshot to b, by plan, and returns how many bytes it took.
func (p *pair) transfer(name string) int {
	p.Helper()
	from, to := volume.Replica{Host: "a"}, volume.Replica{Host: "b"}
	var err error
	from.Snapshots, err = p.a.Snapshots(p.ctx, "v")
	p.must(err)
	to.Snapshots, err = p.b.Snapshots(p.ctx, "v")
	p.must(err)
	d, ok, err := volume.Plan(from, to, name)
	p.must(err)
	if !ok {
		p.Fatalf("nothing to send for %s", name)
	}
	s := p.stream(d)
	p.must(p.receive(d, s))
	return len(s)
}

func (p *pair) write(b volume.Backend, name, text string) {
	p.Helper()
	p.must(os.WriteFile(filepath.Join(b.Path("v"), name), []byte(text), 0o644))
}

func life(p *pair) {
	p.mustBe("snapshot of nothing", second(p.a.Snapshot(p.ctx, "v", "s")), bowline.ErrUnknown)
	p.mustBe("usage of nothing", second(p.a.Usage(p.ctx, "v")), bowline.ErrUnknown)
	p.mustBe("rollback of nothing", p.a.Rollback(p.ctx, "v", "s"), bowline.ErrUnknown)
	p.mustBe("clone of nothing", p.a.Clone(p.ctx, "v", "s", "w", 0), bowline.ErrUnknown)
	p.must(p.a.Delete(p.ctx, "v"))
	p.must(p.a.Create(p.ctx, "v", 0))
	p.mustBe("create again", p.a.Create(p.ctx, "v", 0), bowline.ErrConflict)
	if info, err := os.Stat(p.a.Path("v")); err != nil || info.Mode() != os.ModeDir|0o755 {
		p.Errorf("a new volume is %v, %v", info.Mode(), err)
	}
	p.write(p.a, "f", "text")
	p.snap("s")
	p.mustBe("snapshot again", second(p.a.Snapshot(p.ctx, "v", "s")), bowline.ErrConflict)
	p.must(p.a.Create(p.ctx, "w", 0))
	p.mustBe("clone to what is there", p.a.Clone(p.ctx, "v", "s", "w", 0), bowline.ErrConflict)
	p.must(p.a.Delete(p.ctx, "v"))
	if _, err := os.Stat(p.a.Path("v")); !os.IsNotExist(err) {
		p.Errorf("deleted, and there: %v", err)
	}
	if ss, err := p.a.Snapshots(p.ctx, "v"); err != nil || len(ss) > 0 {
		p.Errorf("deleted, and has snapshots: %v, %v", ss, err)
	}
	p.must(p.a.Create(p.ctx, "v", 0)) // the name is free again
	if left, err := os.ReadDir(p.a.Path("v")); err != nil || len(left) > 0 {
		p.Errorf("a new volume holds %v, %v", left, err)
	}
}

func second[T any](_ T, err error) error { return err }

func fidelity(p *pair) {
	pool := filepath.Dir(filepath.Dir(p.b.Path("v"))) // what is made there must inherit nothing
	p.must(unix.Lsetxattr(pool, "system.posix_acl_default", acl(), 0))
	p.must(p.a.Create(p.ctx, "v", 0))
	Fill(p, p.a.Path("v"))
	filled := Describe(p, p.a.Path("v"))
	p.snap("one")
	p.transfer("one")
	Change(p, p.a.Path("v"))
	changed := Describe(p, p.a.Path("v"))
	if difference(filled, changed) == "" {
		p.Fatal("the judge sees no change")
	}
	p.snap("two")
	p.transfer("two")
	p.must(p.b.Rollback(p.ctx, "v", "one"))
	Same(p, "sent", filled, p.b.Path("v"))
	p.must(p.b.Rollback(p.ctx, "v", "two"))
	Same(p, "sent as an increment", changed, p.b.Path("v"))
	p.must(p.a.Rollback(p.ctx, "v", "one"))
	Same(p, "rolled back", filled, p.a.Path("v"))
	p.must(p.a.Clone(p.ctx, "v", "two", "w", 0))
	Same(p, "cloned", changed, p.a.Path("w"))
}

// Snapshots stay as they are, whatever becomes of what they were taken of.
func snapshots(p *pair) {
	p.must(p.a.Create(p.ctx, "v", 0))
	p.write(p.a, "f", "one")
	p.write(p.a, "g", "stays")
	one := p.snap("one")
	p.write(p.a, "f", "two")
	p.must(os.Chtimes(filepath.Join(p.a.Path("v"), "f"), one.Created, one.Created))
	two := p.snap("two")
	p.write(p.a, "f", "now")
	p.must(p.a.Clone(p.ctx, "v", "one", "w", 0))
	p.must(os.WriteFile(filepath.Join(p.a.Path("w"), "g"), []byte("went"), 0o644))
	ss, err := p.a.Snapshots(p.ctx, "v")
	p.must(err)
	if fmt.Sprint(ss) != fmt.Sprint([]volume.Snapshot{one, two}) || one.ID == two.ID || len(one.ID) != 32 {
		p.Errorf("snapshots are %v, want %v and %v", ss, one, two)
	}
	for _, want := range []struct{ snap, f string }{{"one", "one"}, {"two", "two"}, {"one", "one"}} {
		p.must(p.a.Rollback(p.ctx, "v", want.snap))
		for name, text := range map[string]string{"f": want.f, "g": "stays"} {
			if got, err := os.ReadFile(filepath.Join(p.a.Path("v"), name)); err != nil || string(got) != text {
				p.Errorf("rolled back to %s, %s is %q, %v; want %q", want.snap, name, got, err, text)
			}
		}
		p.write(p.a, "f", "after")
		p.write(p.a, "g", "after")
	}
	p.must(p.a.DeleteSnapshot(p.ctx, "v", "one"))
	p.must(p.a.DeleteSnapshot(p.ctx, "v", "one"))
	if ss, err := p.a.Snapshots(p.ctx, "v"); err != nil || len(ss) != 1 || ss[0] != two {
		p.Errorf("snapshots are %v, %v; want two", ss, err)
	}
	p.must(p.a.Rollback(p.ctx, "v", "two"))
}

// An increment costs what changed, and needs its base.
func increments(p *pair) {
	p.must(p.a.Create(p.ctx, "v", 0))
	p.write(p.a, "big", string(Random(1, 4<<20)))
	one := p.snap("one")
	full := p.transfer("one")
	f, err := os.OpenFile(filepath.Join(p.a.Path("v"), "big"), os.O_WRONLY, 0)
	p.must(err)
	_, err = f.WriteAt(Random(2, 4096), 1<<20)
	p.must(err)
	p.must(f.Close())
	two := p.snap("two")
	if part := p.transfer("two"); part*10 > full {
		p.Errorf("a change of 4 KiB took %d bytes of %d", part, full)
	}
	p.write(p.a, "more", "x")
	three := p.snap("three")
	d := volume.Delta{Base: &two, To: three}
	s := p.stream(d)
	p.must(p.b.DeleteSnapshot(p.ctx, "v", "two"))
	p.mustBe("without its base", p.receive(d, s), bowline.ErrUnknown)
	p.must(p.receive(volume.Delta{Base: &one, To: three}, p.stream(volume.Delta{Base: &one, To: three})))
	p.mustBe("twice", p.receive(volume.Delta{Base: &one, To: three}, s), bowline.ErrConflict)
	want := Describe(p, p.a.Path("v"))
	p.must(p.b.Rollback(p.ctx, "v", "three"))
	Same(p, "sent past a snapshot", want, p.b.Path("v"))
	p.mustBe("send of another pool's", p.b.Send(p.ctx, "v", volume.Delta{To: two}, io.Discard), bowline.ErrUnknown)
}

// What was received is a base like any other, in both directions.
func manyBases(p *pair) {
	p.must(p.a.Create(p.ctx, "v", 0))
	for i := range 4 {
		p.write(p.a, fmt.Sprint("f", i), "text")
		p.write(p.a, "all", fmt.Sprint(i))
		snap := fmt.Sprint("s", i)
		p.snap(snap)
		want := Describe(p, p.a.Path("v"))
		if n := p.transfer(snap); n == 0 {
			p.Error("nothing was sent")
		}
		p.must(p.b.Rollback(p.ctx, "v", snap))
		Same(p, snap, want, p.b.Path("v"))
		p.a, p.b = p.b, p.a
	}
}

// sockets can be in a volume and its snapshots, but are not sent.
func sockets(p *pair) {
	p.must(p.a.Create(p.ctx, "v", 0))
	p.must(unix.Mknod(filepath.Join(p.a.Path("v"), "sock"), unix.S_IFSOCK|0o600, 0))
	s := p.snap("s")
	err := p.a.Send(p.ctx, "v", volume.Delta{To: s}, io.Discard)
	p.mustBe("send of a socket", err, bowline.ErrInvalid)
	p.must(os.Remove(filepath.Join(p.a.Path("v"), "sock")))
	p.snap("t")
	p.transfer("t")
}
