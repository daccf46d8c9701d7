// Package frame wraps a stream so that its reader knows what it is, that it is
// whole, and that it came as it was sent.
//
//	magic  frame...
//	frame = length (4) checksum (4) kind (1) payload
//
// Numbers are little endian. The checksum is CRC-32C of the frame's number (8),
// its kind and its payload, so that a frame that is missing, doubled or out of
// place is seen at once. The first frame is a head, data frames follow, and the
// end frame holds the length of all data and its BLAKE3. Memory is bounded by
// one frame on each side.
package frame

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"lukechampine.com/blake3"

	"github.com/bowline-net/bowline/internal/volume"
)

const (
	magic    = "bowline volume 1\n"
	maxData  = 256 << 10 // payload of a data frame, bytes
	maxHead  = 64 << 10
	headSize = 4 + 4 + 1
	sumSize  = 32
	endSize  = 8 + sumSize
)

const (
	kindHead = iota + 1
	kindData
	kindEnd
)

// A Head says what a stream is of.
type Head struct {
	Kind   string       `json:"kind"` // of the back-end that wrote it
	Volume string       `json:"volume"`
	Delta  volume.Delta `json:"delta"`
	Size   uint64       `json:"size,omitempty"` // that the volume may hold
}

// table returns that of CRC-32C; the standard library makes it once.
func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// A Writer frames what is written to it. Nothing is whole before Close.
type Writer struct {
	w     io.Writer
	table *crc32.Table
	buf   []byte // a data frame in the making, with room for its head
	count uint64 // of frames
	total uint64
	sum   hash.Hash
}

// NewWriter begins a stream on w.
func NewWriter(w io.Writer, h Head) (*Writer, error) {
	head, err := json.Marshal(h)
	if err == nil && len(head) > maxHead {
		err = fmt.Errorf("head of a stream has %d bytes, want at most %d", len(head), maxHead)
	}
	if err == nil {
		_, err = io.WriteString(w, magic)
	}
	if err != nil {
		return nil, err
	}
	f := &Writer{w: w, table: table(), buf: make([]byte, headSize, headSize+maxData), sum: blake3.New(sumSize, nil)}
	return f, f.frame(kindHead, append(make([]byte, headSize), head...))
}

// frame writes one; its first bytes are room for the head.
func (f *Writer) frame(kind byte, b []byte) error {
	binary.LittleEndian.PutUint32(b, uint32(len(b)-headSize))
	b[8] = kind
	binary.LittleEndian.PutUint32(b[4:], checksum(f.table, f.count, b[8:]))
	f.count++
	_, err := f.w.Write(b)
	return err
}

func checksum(t *crc32.Table, count uint64, kindAndPayload []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], count)
	return crc32.Update(crc32.Update(0, t, n[:]), t, kindAndPayload)
}

// Write implements [io.Writer].
func (f *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), cap(f.buf)-len(f.buf))]
		f.buf = append(f.buf, part...)
		p, n = p[len(part):], n+len(part)
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (f *Writer) flush() error {
	data := f.buf[headSize:]
	if len(data) == 0 {
		return nil
	}
	f.sum.Write(data)
	f.total += uint64(len(data))
	err := f.frame(kindData, f.buf)
	f.buf = f.buf[:headSize]
	return err
}

// Close ends the stream. It does not close what is below.
func (f *Writer) Close() error {
	if err := f.flush(); err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint64(make([]byte, headSize, headSize+endSize), f.total)
	return f.frame(kindEnd, f.sum.Sum(b))
}

// A Reader reads the data of a stream.
type Reader struct {
	r     io.Reader
	table *crc32.Table
	buf   []byte
	rest  []byte // of buf, not yet read
	count uint64
	total uint64
	sum   hash.Hash
	err   error
}

// NewReader reads the beginning of a stream. Errors wrap [volume.ErrStream] if
// what r holds is at fault.
func NewReader(r io.Reader) (*Reader, Head, error) {
	var h Head
	first := make([]byte, len(magic))
	if _, err := io.ReadFull(r, first); err != nil {
		return nil, h, cut(err)
	}
	if string(first) != magic {
		return nil, h, fmt.Errorf("%w: it begins with %.20q, want %q", volume.ErrStream, first, magic)
	}
	f := &Reader{r: r, table: table(), sum: blake3.New(sumSize, nil)}
	kind, payload, err := f.frame()
	if err != nil {
		return nil, h, err
	}
	if kind != kindHead {
		return nil, h, fmt.Errorf("%w: its first frame is of kind %d, want a head", volume.ErrStream, kind)
	}
	if err := json.Unmarshal(payload, &h); err != nil {
		return nil, h, fmt.Errorf("%w: its head is %w", volume.ErrStream, err)
	}
	return f, h, nil
}

// cut says of an early end what it means.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it was cut short", volume.ErrStream)
	}
	return err
}

// frame reads the next one. The payload is good until the next call.
func (f *Reader) frame() (kind byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, cut(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxData {
		return 0, nil, fmt.Errorf("%w: frame %d has %d bytes, want at most %d", volume.ErrStream, f.count, size, maxData)
	}
	f.buf = slices.Grow(f.buf[:0], int(size)+1)
	b := f.buf[:size+1]
	if _, err := io.ReadFull(f.r, b); err != nil {
		return 0, nil, cut(err)
	}
	if checksum(f.table, f.count, b) != binary.LittleEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: frame %d is damaged", volume.ErrStream, f.count)
	}
	f.count++
	return b[0], b[1:], nil
}

// Read implements [io.Reader]. It returns io.EOF only if all data came as it was
// sent.
func (f *Reader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 && f.err == nil {
		f.err = f.next()
	}
	if len(f.rest) == 0 {
		return 0, f.err
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *Reader) next() error {
	kind, payload, err := f.frame()
	switch {
	case err != nil:
		return err
	case kind == kindData:
		f.sum.Write(payload)
		f.total += uint64(len(payload))
		f.rest = payload
		return nil
	case kind != kindEnd || len(payload) != endSize:
		return fmt.Errorf("%w: frame %d is of kind %d with %d bytes", volume.ErrStream, f.count-1, kind, len(payload))
	case binary.LittleEndian.Uint64(payload) != f.total || string(payload[8:]) != string(f.sum.Sum(nil)):
		return fmt.Errorf("%w: its data is not what was sent", volume.ErrStream)
	}
	return io.EOF
}
