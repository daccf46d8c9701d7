package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A disk is a small file system on which the host keeps its records.
type disk struct {
	f    *faults
	path string
}

// diskAt puts a file system of so many KiB in place of one of the host's
// directories, for as long as the test lasts.
func (f *faults) diskAt(dir string, size int) *disk {
	f.t.Helper()
	d := &disk{f, filepath.Join(f.dir, dir)}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%dk,nr_inodes=%d", size, 2*size)); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
			f.t.Error(err)
		}
	})
	return d
}

// leave fills the disk until so many pages and so many files are left; -1
// leaves all that there are.
func (d *disk) leave(pages, files int) {
	d.f.t.Helper()
	d.free()
	dir := filepath.Join(d.path, "ballast")
	if err := os.Mkdir(dir, 0o700); err != nil {
		d.f.t.Fatal(err)
	}
	if pages >= 0 {
		name := filepath.Join(dir, "pages")
		if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err == nil || !errors.Is(err, unix.ENOSPC) {
			d.f.t.Fatalf("1 MiB on a smaller disk: %v", err)
		}
		info, err := os.Stat(name)
		if err == nil {
			err = os.Truncate(name, info.Size()-int64(pages*os.Getpagesize()))
		}
		if err != nil {
			d.f.t.Fatal(err)
		}
	}
	if files >= 0 {
		n := 0
		for ; os.Mkdir(filepath.Join(dir, fmt.Sprint(n)), 0o700) == nil; n++ {
		}
		for i := range files {
			if err := os.Remove(filepath.Join(dir, fmt.Sprint(n-1-i))); err != nil {
				d.f.t.Fatal(err)
			}
		}
	}
}

// free takes away what leave has put there.
func (d *disk) free() {
	d.f.t.Helper()
	if err := os.RemoveAll(filepath.Join(d.path, "ballast")); err != nil {
		d.f.t.Fatal(err)
	}
}

// readonly says whether the disk can be written to. The kernel refuses that as
// long as a process that is about to end has a file open.
func (d *disk) readonly(on bool) {
	d.f.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if on {
		flags |= unix.MS_RDONLY
	}
	eventually(d.f.t, func() error { return unix.Mount("", d.path, "", flags, "") })
}

// withoutBallast returns s without what fills disks.
func (s snapshot) withoutBallast() snapshot {
	return s.without("record", func(l string) bool { return strings.Contains(l, "/ballast/") })
}

// refused fails the test unless err is one of a plugin that says what is wrong
// with the disk, and where.
func (d *disk) refused(verb string, err error, why unix.Errno) {
	d.f.t.Helper()
	var ce *cniError
	if !errors.As(err, &ce) || !strings.Contains(ce.Error(), why.Error()) || !strings.Contains(ce.Error(), d.path) || strings.Contains(ce.Msg, "\n") {
		d.f.t.Errorf("%s: %v; want an error that names %q and a file below %s", verb, err, why.Error(), d.path)
	}
}

// diskFull has ADD fail at each page and at each file that it takes, and lets
// go of containers while there is no room at all.
func diskFull(f *faults) { f.diskFull(allOn("web", web4)) }

func (f *faults) diskFull(c conf) {
	d := f.diskAt("run", 64) // 16 pages
	keep := f.bystanders(c)
	v := &victim{faults: f, c: c, keep: keep, box: f.sandbox("a")}
	v.must("ADD")
	v.must("DEL") // brings what the network's containers share
	v.must("GC")
	before := f.whole()
	for _, kind := range []string{"page", "file"} {
		failed := 0
		for n := 0; ; n++ {
			pages, files := n, -1
			if kind == "file" {
				pages, files = -1, n
			}
			d.leave(pages, files)
			err := v.try("ADD")
			if err == nil {
				break
			}
			failed++
			d.refused("ADD", err, unix.ENOSPC)
			v.box.empty("after an ADD that found no room")
			if diff := diff(before, f.whole().withoutBallast()); diff != "" {
				f.t.Fatalf("ADD with %d %ss left:\n%s", n, kind, diff)
			}
			v.must("DEL") // as engines do
			f.report.add("disk for records full, at each "+kind+" that ADD takes"+f.where(c), "nothing: ADD has cleared up by itself", 1)
		}
		if failed == 0 {
			f.t.Errorf("ADD found room on a disk without a %s left", kind)
		}
		d.leave(0, 0)
		v.must("CHECK")
		v.must("DEL")
		v.must("GC")
		v.box.empty("after DEL with a full disk")
		if diff := diff(before, f.whole().withoutBallast()); diff != "" {
			f.t.Fatalf("DEL with a full disk:\n%s", diff)
		}
		f.report.add("disk for records full at DEL and GC"+f.where(c), "nothing: they need no room", 2)
		d.free()
	}
	v.must("ADD")
	v.must("DEL")
}

// diskReadOnly has every verb meet a disk that cannot be written to.
func diskReadOnly(f *faults) { f.diskReadOnly(allOn("web", web4)) }

func (f *faults) diskReadOnly(c conf) {
	d := f.diskAt("run", 64) // 16 pages
	v := &victim{faults: f, c: c, keep: f.bystanders(c), box: f.sandbox("a")}
	v.must("GC")
	before := f.whole()
	d.readonly(true)
	d.refused("ADD", v.try("ADD"), unix.EROFS)
	v.box.empty("after an ADD that could not write")
	if diff := diff(before, f.whole()); diff != "" {
		f.t.Fatalf("ADD with a read-only directory:\n%s", diff)
	}
	v.must("DEL") // there is nothing
	f.report.add("state directory read-only"+f.where(c), "nothing: ADD has cleared up by itself", 1)
	for _, cure := range []string{"DEL", "GC"} {
		d.readonly(false)
		v.must("ADD")
		d.readonly(true)
		v.must("CHECK")
		d.refused("DEL", v.try("DEL"), unix.EROFS)
		d.refused("GC", v.try("GC"), unix.EROFS)
		d.readonly(false)
		v.must(cure)
		v.box.empty("after " + cure)
		if diff := diff(before, f.whole()); diff != "" {
			f.t.Fatalf("%s when the directory can be written to again:\n%s", cure, diff)
		}
		f.report.add("state directory read-only"+f.where(c), cure+" once it can be written to", 1)
	}
}
