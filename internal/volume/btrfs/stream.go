package btrfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/bowline-net/bowline/internal/volume"
)

// The send stream: a header, then commands, each with a checksum and a list of
// attributes. Documentation: dev/dev-send-stream of btrfs-progs.
const (
	streamMagic   = "btrfs-stream\x00"
	streamVersion = 2       // the last one that is understood
	maxCommand    = 1 << 20 // bytes; the kernel's have up to 144 KiB
)

// The kinds of commands.
const (
	cmdSubvol = iota + 1
	cmdSnapshot
	cmdMkfile
	cmdMkdir
	cmdMknod
	cmdMkfifo
	cmdMksock
	cmdSymlink
	cmdRename
	cmdLink
	cmdUnlink
	cmdRmdir
	cmdSetXattr
	cmdRemoveXattr
	cmdWrite
	cmdClone
	cmdTruncate
	cmdChmod
	cmdChown
	cmdUtimes
	cmdEnd
	cmdUpdateExtent
	cmdFallocate
	cmdFileattr
	cmdEncodedWrite
)

// The attributes of commands.
const (
	attrUUID = iota + 1
	attrCtransID
	attrIno
	attrSize
	attrMode
	attrUID
	attrGID
	attrRdev
	attrCtime
	attrMtime
	attrAtime
	attrOtime
	attrXattrName
	attrXattrData
	attrPath
	attrPathTo
	attrPathLink
	attrFileOffset
	attrData
	attrCloneUUID
	attrCloneCtransID
	attrClonePath
	attrCloneOffset
	attrCloneLen
	attrFallocateMode
	attrFileattr
	attrUnencodedFileLen
	attrUnencodedLen
	attrUnencodedOffset
	attrCompression
	attrEncryption
	attrMax
)

// A command is one of a stream. It is good until the next one is read.
type command struct {
	kind  uint16
	raw   []byte // as it was read, with its head
	attrs [attrMax][]byte
	err   error // the first attribute that was not as it must be
}

// A reader reads commands.
type reader struct {
	r       *bufio.Reader
	head    []byte // of the stream, as it was read
	version uint32
	buf     []byte
	table   *crc32.Table
	cmd     command
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{volume.ErrStream}, args...)...)
}

// cut says of an early end what it means.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it was cut short")
	}
	return err
}

const commandHead = 4 + 2 + 4 // length of what follows it, kind, checksum

func newReader(r io.Reader) (*reader, error) {
	s := &reader{r: bufio.NewReaderSize(r, 256<<10), head: make([]byte, len(streamMagic)+4), table: crc32.MakeTable(crc32.Castagnoli)}
	if _, err := io.ReadFull(s.r, s.head); err != nil {
		return nil, cut(err)
	}
	s.version = binary.LittleEndian.Uint32(s.head[len(streamMagic):])
	if string(s.head[:len(streamMagic)]) != streamMagic || s.version < 1 || s.version > streamVersion {
		return nil, damaged("it begins with %q, want %q and version 1 to %d", s.head, streamMagic, streamVersion)
	}
	return s, nil
}

// next reads a command.
func (s *reader) next() (*command, error) {
	var head [commandHead]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return nil, cut(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxCommand {
		return nil, damaged("a command of %d bytes, want at most %d", size, maxCommand)
	}
	total := commandHead + int(size)
	s.buf = slices.Grow(s.buf[:0], total)[:total]
	copy(s.buf, head[:])
	if _, err := io.ReadFull(s.r, s.buf[commandHead:]); err != nil {
		return nil, cut(err)
	}
	want := binary.LittleEndian.Uint32(head[6:])
	clear(s.buf[6:commandHead])
	got := s.checksum(s.buf)
	copy(s.buf, head[:])
	if got != want {
		return nil, damaged("the checksum of a command is %08x, want %08x", got, want)
	}
	s.cmd = command{kind: binary.LittleEndian.Uint16(head[4:]), raw: s.buf}
	return &s.cmd, s.cmd.parse(s.version)
}

// checksum is CRC-32C as the kernel begins and ends it: with nothing.
func (s *reader) checksum(b []byte) uint32 { return ^crc32.Update(^uint32(0), s.table, b) }

// end reads on to the end of the stream, which has the last word on whether all
// is well.
func (s *reader) end() error {
	switch _, err := s.r.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return damaged("something comes after its end")
	default:
		return err
	}
}

// parse finds the attributes.
func (c *command) parse(version uint32) error {
	for b := c.raw[commandHead:]; len(b) > 0; {
		if len(b) < 2 {
			return damaged("half an attribute of command %d", c.kind)
		}
		attr := binary.LittleEndian.Uint16(b)
		if attr == 0 || attr >= attrMax {
			return damaged("attribute %d of command %d", attr, c.kind)
		}
		if version >= 2 && attr == attrData { // the last one, of any length
			c.attrs[attr] = b[2:]
			return nil
		}
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint16(b[2:])) {
			return damaged("half of attribute %d of command %d", attr, c.kind)
		}
		n := 4 + int(binary.LittleEndian.Uint16(b[2:]))
		c.attrs[attr], b = b[4:n:n], b[n:]
	}
	return nil
}

// get returns an attribute that must be there, of n bytes; -1: of any number.
func (c *command) get(attr, n int) []byte {
	b := c.attrs[attr]
	if c.err == nil && (b == nil || n >= 0 && len(b) != n) {
		c.err = damaged("attribute %d of command %d has %d bytes", attr, c.kind, len(b))
	}
	if n >= 0 && len(b) != n {
		return make([]byte, n)
	}
	return b
}

func (c *command) u64(attr int) uint64 { return binary.LittleEndian.Uint64(c.get(attr, 8)) }

// offset returns an attribute that is a place in a file, or a length of it.
func (c *command) offset(attr int) int64 {
	n := c.u64(attr)
	if c.err == nil && n > 1<<63-1 {
		c.err = damaged("attribute %d of command %d is %d", attr, c.kind, n)
	}
	return int64(n)
}

func (c *command) text(attr int) string { return string(c.get(attr, -1)) }

func (c *command) uuid(attr int) (u [16]byte) {
	copy(u[:], c.get(attr, 16))
	return u
}

// optional returns a number that may be missing.
func (c *command) optional(attr int) uint64 {
	switch b := c.attrs[attr]; len(b) {
	case 0:
		return 0
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	default:
		return c.u64(attr)
	}
}
