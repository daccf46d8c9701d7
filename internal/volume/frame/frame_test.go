package frame_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/frame"
)

// sent returns a stream of some frames and what is in it.
func sent(t testing.TB, size int) (stream, data []byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := frame.NewWriter(&b, frame.Head{Kind: "dir", Volume: "v"})
	if err != nil {
		t.Fatal(err)
	}
	data = make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	for chunk := range slices.Chunk(data, 100_001) { // not the size of a frame
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), data
}

// read returns what a reader makes of a stream.
func read(stream []byte) ([]byte, error) {
	r, _, err := frame.NewReader(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 1_000_000} {
		stream, data := sent(t, size)
		got, err := read(stream)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
}

// Whatever bit flips and wherever it is cut, it is seen.
func TestDamage(t *testing.T) {
	t.Parallel()
	stream, _ := sent(t, 3000)
	for i := range stream {
		if _, err := read(stream[:i]); !errors.Is(err, volume.ErrStream) {
			t.Errorf("cut at byte %d: %v", i, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(stream)
			bad[i] ^= 1 << bit
			if _, err := read(bad); !errors.Is(err, volume.ErrStream) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
	}
}

// Frames that are whole but not where they were are seen too.
func TestFramesMoved(t *testing.T) {
	t.Parallel()
	stream, _ := sent(t, 700_000)
	const one = 9 + 256<<10
	first := bytes.IndexByte(stream, '}')
	first = bytes.LastIndexByte(stream[:first+200], '}') + 1
	a, b, rest := stream[first:first+one], stream[first+one:first+2*one], stream[first+2*one:]
	for name, bad := range map[string][]byte{
		"swapped": slices.Concat(stream[:first], b, a, rest),
		"missing": slices.Concat(stream[:first], b, rest),
		"doubled": slices.Concat(stream[:first], a, a, b, rest),
	} {
		if _, err := read(bad); !errors.Is(err, volume.ErrStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(slices.Concat(stream[:first], a, b, rest)); err != nil {
		t.Errorf("put together again: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	stream, _ := sent(f, 100)
	f.Add(stream)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := read(b); err == nil && len(got) > len(b) {
			t.Errorf("%d bytes of %d", len(got), len(b))
		}
	})
}
