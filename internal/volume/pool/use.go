package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// Mount notes that an engine mounts the volume under that ID, and returns where
// it is. The same ID may come again, after the engine was killed.
func (p *Pool) Mount(ctx context.Context, name, id string) (path string, err error) {
	err = p.use(ctx, name, func(r *record) error {
		path = p.backend.Path(name)
		if slices.Contains(r.Mounts, id) {
			return nil
		}
		r.Mounts = append(r.Mounts, id)
		return p.write(ctx, *r)
	})
	return path, err
}

// Unmount forgets an ID. It succeeds if that is not known.
func (p *Pool) Unmount(ctx context.Context, name, id string) error {
	return p.use(ctx, name, func(r *record) error {
		if i := slices.Index(r.Mounts, id); i >= 0 {
			r.Mounts = slices.Delete(r.Mounts, i, i+1)
			return p.write(ctx, *r)
		}
		return nil
	})
}

// Snapshot keeps the volume as it is.
func (p *Pool) Snapshot(ctx context.Context, name, snap string) (s volume.Snapshot, err error) {
	if err := volume.CheckName("snapshot", snap); err != nil {
		return s, err
	}
	err = p.use(ctx, name, func(*record) error {
		s, err = p.backend.Snapshot(ctx, name, snap)
		return err
	})
	return s, err
}

// Snapshots returns those of a volume, oldest first.
func (p *Pool) Snapshots(ctx context.Context, name string) (ss []volume.Snapshot, err error) {
	err = p.use(ctx, name, func(*record) error {
		ss, err = p.backend.Snapshots(ctx, name)
		return err
	})
	return ss, err
}

// DeleteSnapshot succeeds if there is none.
func (p *Pool) DeleteSnapshot(ctx context.Context, name, snap string) error {
	if err := volume.CheckName("snapshot", snap); err != nil {
		return err
	}
	return p.use(ctx, name, func(*record) error { return p.backend.DeleteSnapshot(ctx, name, snap) })
}

// Rollback makes the volume what the snapshot is. The error wraps
// [bowline.ErrConflict] while it is used.
func (p *Pool) Rollback(ctx context.Context, name, snap string) error {
	if err := volume.CheckName("snapshot", snap); err != nil {
		return err
	}
	return p.use(ctx, name, func(r *record) error {
		if err := p.unused(r, false); err != nil {
			return err
		}
		return p.backend.Rollback(ctx, name, snap)
	})
}

// Resize changes how much the volume may hold; 0: as much as the pool has.
func (p *Pool) Resize(ctx context.Context, name string, size uint64) error {
	return p.use(ctx, name, func(r *record) error {
		if err := p.backend.Resize(ctx, name, size); err != nil {
			return err
		}
		r.Size = size
		return p.write(ctx, *r)
	})
}

// mounted returns the processes in whose mount namespaces the directory is
// mounted somewhere: what containers have is a mount of it. One process per
// namespace is named.
func mounted(dir string) ([]string, error) {
	device, root, err := place(dir)
	if err != nil {
		return nil, err
	}
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var users []string
	seen := map[string]bool{}
	for _, pid := range pids {
		ns, err := os.Readlink(pid + "/ns/mnt")
		if err != nil || seen[ns] {
			continue // it has ended, or its namespace is known
		}
		seen[ns] = true
		text, err := os.ReadFile(pid + "/mountinfo")
		if err != nil {
			delete(seen, ns)
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 4 && f[2] == device && (f[3] == root || strings.HasPrefix(f[3], root+"/")) {
				name, _ := os.ReadFile(pid + "/comm")
				users = append(users, fmt.Sprintf("%s %s", filepath.Base(pid), strings.TrimSpace(string(name))))
				break
			}
		}
	}
	return users, nil
}

// place returns where a directory is in its file system, as mountinfo says it.
func place(dir string) (device, root string, err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) { // it was received, or made by half
		return "none", "", nil
	}
	if err != nil {
		return "", "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", "", err
	}
	fdinfo, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return "", "", err
	}
	id := ""
	for line := range strings.Lines(string(fdinfo)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(v)
		}
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && f[0] == id {
			inner, err := filepath.Rel(unescape(f[4]), real)
			return f[2], escape(filepath.Join(unescape(f[3]), inner)), err
		}
	}
	return "", "", fmt.Errorf("%s is on no mount", dir)
}

func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func escape(s string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(s)
}
