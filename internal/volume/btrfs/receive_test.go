package btrfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/volumetest"
)

// A script is a stream in the making.
type script struct{ bytes.Buffer }

var uuidA = [16]byte{0xaa}

const idA = "aa000000000000000000000000000000"

func begin() *script {
	s := new(script)
	s.WriteString(streamMagic)
	s.Write(binary.LittleEndian.AppendUint32(nil, 2))
	return s.add(cmdSubvol, attrPath, "s", attrUUID, string(uuidA[:]), attrCtransID, uint64(1))
}

// add writes a command with pairs of attributes and values.
func (s *script) add(kind uint16, pairs ...any) *script {
	b := make([]byte, commandHead)
	binary.LittleEndian.PutUint16(b[4:], kind)
	for i := 0; i < len(pairs); i += 2 {
		value, ok := pairs[i+1].(string)
		if !ok {
			value = string(binary.LittleEndian.AppendUint64(nil, pairs[i+1].(uint64)))
		}
		attr := pairs[i].(int)
		b = binary.LittleEndian.AppendUint16(b, uint16(attr))
		if attr != attrData {
			b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		}
		b = append(b, value...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-commandHead))
	r := reader{table: crc32.MakeTable(crc32.Castagnoli)}
	binary.LittleEndian.PutUint32(b[6:], r.checksum(b))
	s.Write(b)
	return s
}

// Streams whose checksums are right, and that want out.
func TestHostile(t *testing.T) {
	t.Parallel()
	disk := volumetest.Disk(t, "btrfs", "")
	outside := filepath.Join(disk, "outside")
	if err := os.WriteFile(outside, []byte("not yours"), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := filepath.Join(disk, "pool")
	if err := os.Mkdir(pool, 0o700); err != nil {
		t.Fatal(err)
	}
	b := Open(pool)
	write := func(s *script, path string) *script {
		return s.add(cmdWrite, attrPath, path, attrFileOffset, uint64(0), attrData, "mine")
	}
	link := func(to string) *script { return begin().add(cmdSymlink, attrPath, "l", attrPathLink, to) }
	up := strings.Repeat("../", 20)
	for name, s := range map[string]*script{
		"write up":           write(begin(), up+outside),
		"write from root":    write(begin(), outside),
		"write by a link":    write(link(outside), "l"),
		"write below a link": write(link(disk), "l/outside"),
		"make up":            begin().add(cmdMkfile, attrPath, "../new"),
		"make below a link":  link(disk).add(cmdMkfile, attrPath, "l/new"),
		"make dot":           begin().add(cmdMkdir, attrPath, ".."),
		"rename up":          begin().add(cmdMkfile, attrPath, "f").add(cmdRename, attrPath, "f", attrPathTo, "../../f"),
		"rename from up":     begin().add(cmdRename, attrPath, "../../../outside", attrPathTo, "f"),
		"link up":            begin().add(cmdLink, attrPath, "f", attrPathLink, "../../../outside"),
		"unlink up":          begin().add(cmdUnlink, attrPath, "../../../outside"),
		"unlink by a link":   link(disk).add(cmdUnlink, attrPath, "l/outside"),
		"mode by a link":     link(outside).add(cmdChmod, attrPath, "l", attrMode, uint64(0o777)),
		"truncate by a link": link(outside).add(cmdTruncate, attrPath, "l", attrSize, uint64(0)),
		"write to a device":  write(begin().add(cmdMknod, attrPath, "d", attrMode, uint64(unix.S_IFCHR|0o666), attrRdev, unix.Mkdev(1, 3)), "d"),
		"write to a fifo":    write(begin().add(cmdMkfifo, attrPath, "d", attrMode, uint64(unix.S_IFIFO|0o666), attrRdev, uint64(0)), "d"),
		"a file by mknod":    begin().add(cmdMknod, attrPath, "d", attrMode, uint64(unix.S_IFREG|0o666), attrRdev, uint64(0)),
		"clone of others": begin().add(cmdMkfile, attrPath, "f").add(cmdClone, attrPath, "f", attrFileOffset, uint64(0), attrCloneLen, uint64(4096),
			attrCloneUUID, strings.Repeat("z", 16), attrCtransID, uint64(1), attrClonePath, "f", attrCloneOffset, uint64(0)),
		"a second subvolume": begin().add(cmdSubvol, attrPath, "t", attrUUID, string(uuidA[:]), attrCtransID, uint64(1)),
		"an unknown command": begin().add(99),
		"a huge offset":      begin().add(cmdMkfile, attrPath, "f").add(cmdWrite, attrPath, "f", attrFileOffset, ^uint64(0), attrData, "x"),
		"no path":            begin().add(cmdMkfile),
		"a short number":     begin().add(cmdChmod, attrPath, "", attrMode, "1"),
	} {
		s.add(cmdEnd)
		err := b.Receive(t.Context(), "v", volume.Delta{To: volume.Snapshot{Name: "s", ID: idA}}, &s.Buffer)
		if !errors.Is(err, volume.ErrStream) {
			t.Errorf("%s: %v, want ErrStream", name, err)
		}
		if left, err := os.ReadDir(pool); err != nil || len(left) > 0 {
			t.Errorf("%s: left in the pool are %v, %v", name, left, err)
		}
		if text, err := os.ReadFile(outside); err != nil || string(text) != "not yours" {
			t.Fatalf("%s: what is outside holds %q, %v", name, text, err)
		}
		if info, err := os.Stat(outside); err != nil || info.Mode() != 0o600 {
			t.Fatalf("%s: what is outside is %v, %v", name, info, err)
		}
	}
	// The owner of a link is that of the link.
	s := write(link(outside).add(cmdChown, attrPath, "l", attrUID, uint64(5), attrGID, uint64(6)).add(cmdMkfile, attrPath, "f"), "f").add(cmdEnd)
	if err := b.Receive(t.Context(), "v", volume.Delta{To: volume.Snapshot{Name: "s", ID: idA}}, &s.Buffer); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(b.SnapshotDir("v", "s"), "f")); err != nil || string(text) != "mine" {
		t.Errorf("received %q, %v", text, err)
	}
	if err := b.Delete(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
}

// Compressed extents come as they are, and can be read where the kernel does not
// take them.
func TestCompressed(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"zstd", "zlib"} {
		b := Open(volumetest.Disk(t, "btrfs", "compress-force="+how))
		if err := b.Create(t.Context(), "v", 0); err != nil {
			t.Fatal(err)
		}
		text := bytes.Repeat([]byte("all work and no play\n"), 50_000)
		if err := os.WriteFile(filepath.Join(b.Path("v"), "f"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := b.Snapshot(t.Context(), "v", "s")
		if err != nil {
			t.Fatal(err)
		}
		var stream bytes.Buffer
		if err := b.Send(t.Context(), "v", volume.Delta{To: s}, &stream); err != nil {
			t.Fatal(err)
		}
		if stream.Len() > len(text)/4 {
			t.Errorf("%s: %d bytes were sent of %d: not as they are compressed", how, stream.Len(), len(text))
		}
		for _, plain := range []bool{false, true} {
			at := filepath.Join(string(b.Layout), "got")
			rec := &receiver{ctx: t.Context(), delta: volume.Delta{To: s}, made: at, plain: plain}
			err := rec.run(bytes.NewReader(stream.Bytes()))
			rec.close()
			if err != nil {
				t.Fatalf("%s, plain %v: %v", how, plain, err)
			}
			if got, err := os.ReadFile(filepath.Join(at, "f")); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s, plain %v: got %d bytes of %d, %v", how, plain, len(got), len(text), err)
			}
			if err := remove(at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("x"), 5000)
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for kind, b := range map[uint32][]byte{compressionZlib: z.Bytes(), compressionZstd: enc.EncodeAll(text, nil)} {
		e := encoded{unencodedLen: 8192, compression: kind} // the rest is zeros
		if got, err := expand(e, b); err != nil || !bytes.Equal(got, append(bytes.Clone(text), make([]byte, 3192)...)) {
			t.Errorf("kind %d: %d bytes, %v", kind, len(got), err)
		}
		if _, err := expand(e, []byte("nonsense")); !errors.Is(err, volume.ErrStream) {
			t.Errorf("kind %d of nonsense: %v", kind, err)
		}
	}
	if _, err := expand(encoded{compression: 3, unencodedLen: 1}, nil); !errors.Is(err, volume.ErrStream) {
		t.Errorf("lzo: %v", err)
	}
}

// FuzzCommands reads what may be a stream, without doing what it says.
func FuzzCommands(f *testing.F) {
	s := begin().add(cmdMkfile, attrPath, "f").add(cmdEnd)
	f.Add(s.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newReader(bytes.NewReader(b))
		for err == nil {
			var c *command
			if c, err = r.next(); err == nil {
				_, _, _ = c.text(attrPath), c.offset(attrFileOffset), c.optional(attrRdev)
			}
		}
		if !errors.Is(err, volume.ErrStream) && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
