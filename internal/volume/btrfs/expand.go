package btrfs

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/bowline-net/bowline/internal/volume"
)

// maxExtent is the size of what the kernel compresses at once, in bytes, with
// room for larger ones in times to come.
const maxExtent = 1 << 20

// The kinds of compression that a stream names.
const (
	compressionZlib = 1
	compressionZstd = 2
)

// expand returns the e.unencodedLen bytes that a compressed extent stands for.
// Behind the compressed data there may be padding.
func expand(e encoded, b []byte) ([]byte, error) {
	var r io.Reader
	switch e.compression {
	case compressionZlib:
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", volume.ErrStream, err)
		}
		defer z.Close()
		r = z
	case compressionZstd:
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", volume.ErrStream, err)
		}
		defer z.Close()
		r = z
	default:
		return nil, damaged("compression %d, which this kernel does not take as it is; want zlib or zstd", e.compression)
	}
	text := make([]byte, e.unencodedLen)
	n, err := io.ReadFull(r, text)
	if err == io.ErrUnexpectedEOF || err == io.EOF { // the rest is zeros
		err = nil
	}
	if err != nil && n < len(text) {
		return nil, fmt.Errorf("%w: %w", volume.ErrStream, err)
	}
	return text, nil
}
