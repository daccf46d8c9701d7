package tree

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/volume"
)

// A stream is one operation after the other: a byte that says which, and its
// arguments in the order of the methods of [Sink]. Numbers are varints, texts
// have their length before them.
const (
	opEnter = iota + 1
	opLeave
	opFile
	opPatch
	opData
	opHole
	opSymlink
	opNode
	opLink
	opSame
	opEnd
)

// What a decoder takes. The kernel allows no more of anything but paths, and
// those of links only.
const (
	maxText   = 1 << 20
	maxXattrs = 4096
	maxValue  = 64 << 10
)

// An Encoder is a sink that writes a stream.
type Encoder struct {
	w   *bufio.Writer
	err error
}

// NewEncoder writes to w; all is there when End has returned.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: bufio.NewWriterSize(w, 64<<10)} }

func (e *Encoder) op(o byte) {
	if e.err == nil {
		e.err = e.w.WriteByte(o)
	}
}

func (e *Encoder) uint(n uint64) {
	var b [binary.MaxVarintLen64]byte
	if e.err == nil {
		_, e.err = e.w.Write(binary.AppendUvarint(b[:0], n))
	}
}

func (e *Encoder) bytes(b []byte) {
	e.uint(uint64(len(b)))
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *Encoder) text(s string) {
	e.uint(uint64(len(s)))
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

func (e *Encoder) meta(m Meta) {
	e.uint(uint64(m.Mode))
	e.uint(uint64(m.UID))
	e.uint(uint64(m.GID))
	e.uint(uint64(m.Sec)<<1 ^ uint64(m.Sec>>63)) // small if near 0 on either side
	e.uint(uint64(m.Nsec))
	e.uint(uint64(len(m.Xattrs)))
	for _, x := range m.Xattrs {
		e.text(x.Name)
		e.bytes(x.Value)
	}
}

// Enter implements [Sink].
func (e *Encoder) Enter(name string, m Meta) error {
	e.op(opEnter)
	e.text(name)
	e.meta(m)
	return e.err
}

// Leave implements [Sink].
func (e *Encoder) Leave() error {
	e.op(opLeave)
	return e.err
}

// File implements [Sink].
func (e *Encoder) File(name string, m Meta, size int64, patch bool) error {
	if patch {
		e.op(opPatch)
	} else {
		e.op(opFile)
	}
	e.text(name)
	e.meta(m)
	e.uint(uint64(size))
	return e.err
}

// Data implements [Sink].
func (e *Encoder) Data(off int64, b []byte) error {
	e.op(opData)
	e.uint(uint64(off))
	e.bytes(b)
	return e.err
}

// Hole implements [Sink].
func (e *Encoder) Hole(off, n int64) error {
	e.op(opHole)
	e.uint(uint64(off))
	e.uint(uint64(n))
	return e.err
}

// Symlink implements [Sink].
func (e *Encoder) Symlink(name string, m Meta, target string) error {
	e.op(opSymlink)
	e.text(name)
	e.meta(m)
	e.text(target)
	return e.err
}

// Node implements [Sink]. Sockets are refused: what listens there does not move
// with the files.
func (e *Encoder) Node(name string, m Meta, kind uint32, rdev uint64) error {
	if kind == unix.S_IFSOCK {
		return ErrSocket
	}
	e.op(opNode)
	e.text(name)
	e.meta(m)
	e.uint(uint64(kind))
	e.uint(rdev)
	return e.err
}

// ErrSocket says that a tree cannot be sent.
var ErrSocket = bowline.Wrong(bowline.ErrInvalid, "is a socket: want none in what is sent, for whoever listens there stays behind; stop him, or keep it elsewhere")

// Link implements [Sink].
func (e *Encoder) Link(name, path string) error {
	e.op(opLink)
	e.text(name)
	e.text(path)
	return e.err
}

// Same implements [Sink].
func (e *Encoder) Same(name string) error {
	e.op(opSame)
	e.text(name)
	return e.err
}

// End implements [Sink].
func (e *Encoder) End() error {
	e.op(opEnd)
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}

// Decode tells the stream r to s, and reads r to its end. The error wraps
// [volume.ErrStream] if r does not hold one whole stream.
func Decode(ctx context.Context, r io.Reader, s Sink) error {
	d := &decoder{r: bufio.NewReaderSize(r, 64<<10)}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		op, err := d.r.ReadByte()
		if err == io.EOF {
			return fmt.Errorf("%w: it was cut short", volume.ErrStream)
		}
		if err != nil {
			return err
		}
		if op == opEnd {
			if err := s.End(); err != nil {
				return err
			}
			return d.end()
		}
		if err := d.operation(op, s); err != nil {
			return err
		}
	}
}

// end reads on to the end of r, which has the last word on whether all is well.
func (d *decoder) end() error {
	switch _, err := d.r.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: something comes after its end", volume.ErrStream)
	default:
		return err
	}
}

type decoder struct {
	r   *bufio.Reader
	buf []byte
	err error // the first one; all that is read after it is zero
}

func (d *decoder) fail(err error) {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it was cut short", volume.ErrStream)
	}
	if d.err == nil {
		d.err = err
	}
}

// uint reads a number up to limit.
func (d *decoder) uint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: %w", volume.ErrStream, err) // too long
	}
	if err == nil && n > limit {
		err = fmt.Errorf("%w: %d where at most %d can be", volume.ErrStream, n, limit)
	}
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

// bytes reads a text of up to limit bytes, good until the next call.
func (d *decoder) bytes(limit uint64) []byte {
	n := int(d.uint(limit))
	if d.err != nil {
		return nil
	}
	if cap(d.buf) < n {
		d.buf = make([]byte, n)
	}
	if _, err := io.ReadFull(d.r, d.buf[:n]); err != nil {
		d.fail(err)
		return nil
	}
	return d.buf[:n]
}

func (d *decoder) text(limit uint64) string { return string(d.bytes(limit)) }

func (d *decoder) meta() Meta {
	m := Meta{
		Mode: uint32(d.uint(0o7777)),
		UID:  uint32(d.uint(math.MaxUint32 - 1)), // the last one means "leave it"
		GID:  uint32(d.uint(math.MaxUint32 - 1)),
	}
	sec := d.uint(math.MaxUint64)
	m.Sec = int64(sec>>1) ^ -int64(sec&1)
	m.Nsec = uint32(d.uint(999_999_999))
	for n := d.uint(maxXattrs); n > 0 && d.err == nil; n-- {
		name := d.text(255)
		m.Xattrs = append(m.Xattrs, Xattr{name, append([]byte{}, d.bytes(maxValue)...)})
	}
	return m
}

// operation reads the arguments of op and calls its method.
func (d *decoder) operation(op byte, s Sink) error {
	var call func() error
	switch op {
	case opEnter:
		name, m := d.text(255), d.meta()
		call = func() error { return s.Enter(name, m) }
	case opLeave:
		call = s.Leave
	case opFile, opPatch:
		name, m, size := d.text(255), d.meta(), int64(d.uint(math.MaxInt64))
		call = func() error { return s.File(name, m, size, op == opPatch) }
	case opData:
		off, b := int64(d.uint(math.MaxInt64)), d.bytes(maxText)
		call = func() error { return s.Data(off, b) }
	case opHole:
		off, n := int64(d.uint(math.MaxInt64)), int64(d.uint(math.MaxInt64))
		call = func() error { return s.Hole(off, n) }
	case opSymlink:
		name, m, target := d.text(255), d.meta(), d.text(unix.PathMax)
		call = func() error { return s.Symlink(name, m, target) }
	case opNode:
		name, m, kind, rdev := d.text(255), d.meta(), uint32(d.uint(math.MaxUint32)), d.uint(math.MaxUint64)
		call = func() error { return s.Node(name, m, kind, rdev) }
	case opLink:
		name, path := d.text(255), d.text(maxText)
		call = func() error { return s.Link(name, path) }
	case opSame:
		name := d.text(255)
		call = func() error { return s.Same(name) }
	default:
		return fmt.Errorf("%w: operation %d", volume.ErrStream, op)
	}
	if d.err != nil {
		return d.err
	}
	return call()
}
