package volumetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/frame"
)

// cases is how many streams are damaged in one way; with BOWLINE_FAULTS=long
// 10 000.
func cases() int {
	if os.Getenv("BOWLINE_FAULTS") == "long" {
		return 10_000
	}
	return 60
}

// everything returns all that is on the disk of a pool, by path, size and mode.
func (p *pair) everything(b volume.Backend) string {
	p.Helper()
	var s strings.Builder
	disk := filepath.Dir(filepath.Dir(filepath.Dir(b.Path("v"))))
	err := filepath.WalkDir(disk, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && !e.IsDir() {
			fmt.Fprintln(&s, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		} else if err == nil {
			fmt.Fprintln(&s, path, info.Mode())
		}
		return err
	})
	p.must(err)
	return s.String()
}

// small makes v with two snapshots, of which b has the first, and returns the
// streams of both.
func (p *pair) small() (full, part volume.Delta, all, rest []byte) {
	p.Helper()
	p.must(p.a.Create(p.ctx, "v", 0))
	p.write(p.a, "f", string(Random(3, 3000)))
	p.must(os.Mkdir(filepath.Join(p.a.Path("v"), "dir"), 0o755))
	p.must(os.Symlink("../../../..", filepath.Join(p.a.Path("v"), "dir", "out")))
	p.must(os.Link(filepath.Join(p.a.Path("v"), "f"), filepath.Join(p.a.Path("v"), "dir", "g")))
	one := p.snap("one")
	p.write(p.a, "f", string(Random(4, 3000)))
	p.write(p.a, "dir/new", "new")
	p.must(unix.Lsetxattr(filepath.Join(p.a.Path("v"), "f"), "user.x", []byte("x"), 0))
	two := p.snap("two")
	full, part = volume.Delta{To: one}, volume.Delta{Base: &one, To: two}
	return full, part, p.stream(full), p.stream(part)
}

// damage: what was cut short or has a bit flipped is refused and leaves nothing.
func damage(p *pair) {
	full, part, all, rest := p.small()
	r := rand.New(rand.NewPCG(5, 6))
	for _, s := range []struct {
		d volume.Delta
		b []byte
	}{{full, all}, {part, rest}} {
		before := p.everything(p.b)
		for i := range cases() {
			bad, what := bytes.Clone(s.b), "cut"
			at := r.IntN(len(bad))
			if i%2 == 0 {
				what = "flipped"
				bad[at] ^= 1 << r.IntN(8)
			} else {
				bad = bad[:at]
			}
			p.mustBe(fmt.Sprintf("%s, %s at byte %d of %d", s.d, what, at, len(s.b)), p.receive(s.d, bad), volume.ErrStream)
		}
		if after := p.everything(p.b); after != before {
			p.Fatalf("damaged streams of %s leave\n%s\nwhere there was\n%s", s.d, after, before)
		}
		p.must(p.receive(s.d, s.b))
	}
}

// hostile: streams whose frames are in order, but not what is in them. Some are
// harmless, and make a snapshot; all others leave nothing.
func hostile(p *pair) {
	full, part, _, _ := p.small()
	var body bytes.Buffer
	p.must(p.a.Send(p.ctx, "v", full, &body))
	p.must(p.b.Receive(p.ctx, "v", full, &body))
	body.Reset()
	p.must(p.a.Send(p.ctx, "v", part, &body))
	before := p.everything(p.b)
	r := rand.New(rand.NewPCG(8, 9))
	refused := 0
	for range 2 * cases() {
		bad := bytes.Clone(body.Bytes())
		for range 1 + r.IntN(3) {
			bad[r.IntN(len(bad))] = byte(r.Uint32())
		}
		if p.suite.Seal != nil {
			p.suite.Seal(bad)
		}
		err := p.b.Receive(p.ctx, "v", part, bytes.NewReader(bad))
		if err != nil {
			refused++
		}
		p.must(p.b.DeleteSnapshot(p.ctx, "v", "two"))
		if after := p.everything(p.b); after != before {
			p.Fatalf("a hostile stream (%v) leaves\n%s\nwhere there was\n%s", err, after, before)
		}
	}
	if refused == 0 {
		p.Error("every hostile stream was taken")
	}
	p.must(p.b.Receive(p.ctx, "v", part, &body))
}

// interrupted: every step can fail, and then the same call succeeds.
func interrupted(p *pair) {
	at := func(what string, f func(ctx context.Context) error) {
		p.Helper()
		for n := 0; ; n += 1 + n/2 {
			err := f(netnstest.FailAfter(p.ctx, n))
			if err == nil {
				return
			}
			if !errors.Is(err, context.Canceled) {
				p.Fatalf("%s, failed at step %d: %v", what, n, err)
			}
			for _, b := range []volume.Backend{p.a, p.b} {
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(b.Path("v")), "*", ".partial")); len(left) > 0 {
					p.Fatalf("%s, failed at step %d, leaves %v", what, n, left)
				}
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(b.Path("v")), "partial*")); len(left) > 0 {
					p.Fatalf("%s, failed at step %d, leaves %v", what, n, left)
				}
			}
		}
	}
	at("create", func(ctx context.Context) error { return p.a.Create(ctx, "v", 0) })
	for i := range 5 {
		p.write(p.a, fmt.Sprint(i), string(Random(9, 100_000)))
	}
	want := Describe(p, p.a.Path("v"))
	var d volume.Delta
	at("snapshot", func(ctx context.Context) (err error) { d.To, err = p.a.Snapshot(ctx, "v", "s"); return err })
	at("send", func(ctx context.Context) error { return p.a.Send(ctx, "v", d, io.Discard) })
	s := p.stream(d)
	at("receive", func(ctx context.Context) error {
		r, _, err := frame.NewReader(bytes.NewReader(s))
		p.must(err)
		return p.b.Receive(ctx, "v", d, r)
	})
	at("rollback", func(ctx context.Context) error { return p.b.Rollback(ctx, "v", "s") })
	Same(p, "after failures", want, p.b.Path("v"))
	at("rollback again", func(ctx context.Context) error { return p.b.Rollback(ctx, "v", "s") })
	at("clone", func(ctx context.Context) error { return p.b.Clone(ctx, "v", "s", "w", 0) })
	Same(p, "cloned after failures", want, p.b.Path("w"))
	at("delete a snapshot", func(ctx context.Context) error { return p.b.DeleteSnapshot(ctx, "v", "s") })
	at("delete", func(ctx context.Context) error { return p.b.Delete(ctx, "v") })
	// As a kill would leave it: what was being made is there, half.
	p.must(p.b.Create(p.ctx, "v", 0))
	half := filepath.Join(filepath.Dir(p.b.Path("v")), "partial")
	p.must(os.MkdirAll(filepath.Join(half, "first", "x"), 0o700))
	p.write(p.b, "f", "text")
	p.must(second(p.b.Snapshot(p.ctx, "v", "s")))
	p.must(p.b.Rollback(p.ctx, "v", "s"))
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		p.Errorf("what a kill left is still there: %v", err)
	}
}

// sizes are kept, or refused by who cannot keep them.
func sizes(p *pair) {
	const size = 16 << 20
	if !p.suite.Sizes {
		p.mustBe("create with a size", p.a.Create(p.ctx, "v", size), bowline.ErrInvalid)
		p.must(p.a.Create(p.ctx, "v", 0))
		p.mustBe("resize", p.a.Resize(p.ctx, "v", size), bowline.ErrInvalid)
		p.must(p.a.Resize(p.ctx, "v", 0))
		p.write(p.a, "f", string(Random(1, 1<<20)))
		if u, err := p.a.Usage(p.ctx, "v"); err != nil || u.Used < 1<<20 || u.Used > 2<<20 || u.Size != 0 {
			p.Errorf("usage is %+v, %v; want 1 MiB and a little", u, err)
		}
		return
	}
	p.must(p.a.Create(p.ctx, "v", size))
	fill := func(name string, n int) error {
		f, err := os.Create(filepath.Join(p.a.Path("v"), name))
		p.must(err)
		_, err = f.Write(Random(1, n))
		return errors.Join(err, f.Sync(), f.Close())
	}
	p.must(fill("fits", 8<<20))
	p.mustBe("more than the size", fill("more", 12<<20), unix.EDQUOT)
	p.must(os.Remove(filepath.Join(p.a.Path("v"), "more")))
	p.mustBe("resize below what it holds", p.a.Resize(p.ctx, "v", 1<<20), bowline.ErrInvalid)
	p.must(p.a.Resize(p.ctx, "v", 2*size))
	u, err := p.a.Usage(p.ctx, "v")
	if err != nil || u.Size != 2*size || u.Used < 8<<20 || u.Used > 9<<20 {
		p.Errorf("usage is %+v, %v; want 8 MiB and a little of 32", u, err)
	}
	p.must(fill("more", 12<<20))
	p.snap("s")
	p.must(p.a.Rollback(p.ctx, "v", "s")) // keeps the size
	p.mustBe("more than the size after a rollback", fill("yet more", 20<<20), unix.EDQUOT)
	p.must(p.a.Clone(p.ctx, "v", "s", "w", size*4))
	if u, err := p.a.Usage(p.ctx, "w"); err != nil || u.Size != size*4 {
		p.Errorf("usage of a clone is %+v, %v", u, err)
	}
	p.must(p.a.Resize(p.ctx, "v", 0))
	if u, err := p.a.Usage(p.ctx, "v"); err != nil || u.Size != 0 {
		p.Errorf("usage without a size is %+v, %v", u, err)
	}
	p.must(fill("yet more", 20<<20))
}

// inUse: somebody writes, makes and removes while snapshots are taken and sent.
func inUse(p *pair) {
	p.must(p.a.Create(p.ctx, "v", 0))
	p.write(p.a, "stays", "as it is")
	at := func(name string) string { return filepath.Join(p.a.Path("v"), name) }
	ctx, stop := context.WithCancel(p.ctx)
	begun, ended := make(chan bool), make(chan error)
	go func() {
		for n := 0; ; n++ {
			if ctx.Err() != nil {
				ended <- nil
				return
			}
			// first is written before second, so it is never behind it.
			err := errors.Join(replace(at("first"), n), replace(at("second"), n),
				os.MkdirAll(at(fmt.Sprint("d", n%7, "/e")), 0o755), replace(at(fmt.Sprint("d", n%7, "/e/f")), n), os.RemoveAll(at(fmt.Sprint("d", (n+3)%7))))
			if err != nil {
				ended <- err
				return
			}
			if n == 20 {
				close(begun)
			}
		}
	}()
	<-begun
	for i := range 6 {
		snap := fmt.Sprint("s", i)
		p.snap(snap)
		p.transfer(snap)
	}
	stop()
	p.must(<-ended)
	for i := range 6 {
		p.must(p.b.Rollback(p.ctx, "v", fmt.Sprint("s", i)))
		in := func(name string) string {
			b, err := os.ReadFile(filepath.Join(p.b.Path("v"), name))
			p.must(err)
			return string(b)
		}
		if in("stays") != "as it is" {
			p.Errorf("snapshot %d has another stays", i)
		}
		var first, other int
		fmt.Sscan(in("first"), &first)
		fmt.Sscan(in("second"), &other)
		if p.suite.Atomic && (first < other || first > other+1) {
			p.Errorf("snapshot %d is of two moments: first is %d, second %d", i, first, other)
		}
	}
}

// replace writes a number to a file in one step.
func replace(path string, n int) error {
	if err := os.WriteFile(path+"+", fmt.Append(nil, n), 0o644); err != nil {
		return err
	}
	return os.Rename(path+"+", path)
}

// freeze: who writes waits; but only where the pool has the disk for itself.
func freeze(p *pair, disk string) {
	inner := p.suite.Open(filepath.Join(disk, "sub"))
	p.must(os.Mkdir(filepath.Join(disk, "sub"), 0o700))
	p.mustBe("freeze of a part of a disk", inner.Freeze(p.ctx), volume.ErrShared)
	p.must(inner.Thaw(p.ctx))
	b := p.suite.Open(disk)
	p.Cleanup(func() { p.must(b.Delete(context.Background(), "v")) })
	p.Cleanup(func() { _ = b.Thaw(context.Background()) })
	p.must(b.Create(p.ctx, "v", 0))
	p.must(b.Thaw(p.ctx)) // of nothing
	p.must(b.Freeze(p.ctx))
	p.must(b.Freeze(p.ctx))
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(b.Path("v"), "f"), []byte("text"), 0o644) }()
	select {
	case err := <-written:
		p.Errorf("written to a frozen pool: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.must(b.Thaw(p.ctx))
	p.must(<-written)
}
