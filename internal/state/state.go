// Package state keeps records: small JSON values in files that are replaced
// atomically and can tell when they were torn.
//
// A record lives exactly as long as its thing. Write it before acting and erase
// it after undoing: then a kill leaves a record without an object, which is
// harmless and cleared by gc, and never an object without a record.
package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/jsontext"
)

// A Store is a directory of records. Names are relative paths with / as
// separator, such as "endpoints/web/3f2a"; they must be made of [Key] parts.
// Its methods may be called from several goroutines and processes at once.
type Store struct {
	Dir     string
	Durable bool // sync to disk before returning: for what must survive a power cut
}

// version is the first word of a record's header line. It changes when the
// envelope does; the body versions itself by its JSON keys.
const version = "bowline-record-1"

// damagedDir holds records that were set aside, within a store's Dir.
const damagedDir = "damaged"

// A DamagedError reports a record that could not be read. It has been moved to
// Kept, so that nothing is lost and no later call trips over it.
type DamagedError struct {
	Path, Kept, Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("record %s is damaged (%s); it is kept as %s", e.Path, e.Reason, e.Kept)
}

// Unwrap says which of the causes that faces tell apart it is.
func (e *DamagedError) Unwrap() error { return bowline.ErrDamaged }

// Put writes v under name, replacing what is there. After an error, or a kill
// at any moment, the record is the old one or the new one, whole.
func (s Store) Put(ctx context.Context, name string, v any) error {
	return s.put(ctx, name, v, unix.Rename)
}

// Create is Put that fails with fs.ErrExist if there is a record already.
func (s Store) Create(ctx context.Context, name string, v any) error {
	return s.put(ctx, name, v, func(from, to string) error {
		err := unix.Link(from, to)
		if err == nil {
			unix.Unlink(from)
		}
		return err
	})
}

func (s Store) put(ctx context.Context, name string, v any, place func(from, to string) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	data, err := encode(v)
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	path := filepath.Join(s.Dir, name)
	f, err := createTemp(path)
	// Delete takes an empty directory away with its last record, perhaps
	// between our making it and our using it, hence several tries.
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < 100; try++ {
		// MkdirAll says that the directory exists if it went while it looked.
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			f, err = createTemp(path)
		}
	}
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil && s.Durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write record %s: %w", name, err)
	}
	if s.Durable {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// createTemp makes a file beside path whose name starts with a dot, so that
// List does not see it and Sweep does.
func createTemp(path string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(path), ".tmp-*")
}

// Get reads the record into v. The error wraps fs.ErrNotExist if there is none,
// and is a [*DamagedError] if it was torn or is of an unknown version.
func (s Store) Get(ctx context.Context, name string, v any) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read record %s: %w", name, err)
	}
	path := filepath.Join(s.Dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read record %s: %w", name, err)
	}
	reason := decode(data, v)
	if reason == "" {
		return nil
	}
	return s.setAside(name, path, data, reason)
}

// setAside moves a damaged record away, unless somebody replaced it meanwhile.
func (s Store) setAside(name, path string, seen []byte, reason string) error {
	now, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(now, seen) {
		return fmt.Errorf("read record %s: changed while it was read: %w", name, fs.ErrNotExist)
	}
	dir := filepath.Join(s.Dir, damagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Named by content, so that nothing that was set aside is overwritten.
	kept := filepath.Join(dir, fmt.Sprintf("%s.%08x", strings.ReplaceAll(name, "/", "_"), checksum(seen)))
	if err := os.Rename(path, kept); err != nil {
		return fmt.Errorf("set aside damaged record %s: %w", name, err)
	}
	return &DamagedError{Path: path, Kept: kept, Reason: reason}
}

// Rename gives the record another name, replacing what has it.
func (s Store) Rename(ctx context.Context, from, to string) error {
	err := ctx.Err()
	if err == nil {
		err = os.Rename(filepath.Join(s.Dir, from), filepath.Join(s.Dir, to))
	}
	if err == nil && s.Durable {
		err = syncDir(filepath.Dir(filepath.Join(s.Dir, to)))
	}
	if err != nil {
		return fmt.Errorf("rename record %s: %w", from, err)
	}
	return nil
}

// Delete removes the record. It succeeds if there is none.
func (s Store) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete record %s: %w", name, err)
	}
	path := filepath.Join(s.Dir, name)
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// A read-only file system does not look whether there is one.
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("delete record %s: %w", name, err)
	}
	// The directory goes with its last record; ENOTEMPTY is the usual answer.
	if dir := filepath.Dir(path); dir != filepath.Clean(s.Dir) {
		unix.Rmdir(dir)
	}
	if s.Durable {
		if err := syncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// List returns the names of the records directly below dir, sorted. dir "" is
// the store itself. No directory is no records.
func (s Store) List(ctx context.Context, dir string) ([]string, error) {
	names, _, err := s.read(ctx, dir)
	return names, err
}

// Dirs returns the names of the directories of records directly below dir, sorted.
func (s Store) Dirs(ctx context.Context, dir string) ([]string, error) {
	_, dirs, err := s.read(ctx, dir)
	return dirs, err
}

func (s Store) read(ctx context.Context, dir string) (names, dirs []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("list records in %q: %w", dir, err)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list records in %q: %w", dir, err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir() && name != damagedDir:
			dirs = append(dirs, name)
		case e.Type().IsRegular():
			names = append(names, name)
		}
	}
	return names, dirs, nil
}

// Key turns any string into one part of a record's name. Different strings
// give different keys, whatever bytes they hold.
func Key(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		case c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 200 || b.Len() == 0 {
		return fmt.Sprintf("%%%08x%08x", checksum([]byte(s)), checksum([]byte("x"+s)))
	}
	return b.String()
}

func encode(v any) ([]byte, error) {
	body, err := marshal(v)
	if err != nil {
		return nil, err
	}
	header := fmt.Sprintf("%s %08x %d\n", version, checksum(body), len(body))
	return append(append([]byte(header), body...), '\n'), nil
}

func marshal(v any) ([]byte, error) {
	a, ok := v.(jsontext.Appender)
	if !ok {
		return json.Marshal(v)
	}
	var w jsontext.Writer
	w.Object("", func() { a.AppendJSON(&w) })
	return w.Bytes()
}

// decode returns why data is not a whole record, or "".
func decode(data []byte, v any) string {
	header, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return "no header"
	}
	var word string
	var sum uint32
	var size int
	if _, err := fmt.Sscanf(string(header), "%s %x %d", &word, &sum, &size); err != nil || word != version {
		return fmt.Sprintf("header is %.40q, want %q", header, version+" CHECKSUM LENGTH")
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	if len(body) != size {
		return fmt.Sprintf("%d bytes, want %d", len(body), size)
	}
	if got := checksum(body); got != sum {
		return fmt.Sprintf("checksum is %08x, want %08x", got, sum)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return err.Error()
	}
	return ""
}

// checksum is the head of SHA-256: unlike the CRCs of the standard library it
// builds no table when a process starts, and every plugin has it linked anyway.
func checksum(b []byte) uint32 {
	d := sha256.Sum256(b)
	return binary.BigEndian.Uint32(d[:])
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
