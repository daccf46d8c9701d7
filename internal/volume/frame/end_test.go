package frame

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/bowline-net/bowline/internal/volume"
)

// Frames that are all in order, but whose end is that of other data.
func TestEnd(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]func(w *Writer){
		"sum":    func(w *Writer) { w.sum.Write([]byte("x")) },
		"length": func(w *Writer) { w.total++ },
		"kind":   func(w *Writer) { _ = w.frame(9, make([]byte, headSize)) },
		"head":   func(w *Writer) { _ = w.frame(kindHead, append(make([]byte, headSize), "{}"...)) },
	} {
		var b bytes.Buffer
		w, err := NewWriter(&b, Head{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("data")); err != nil {
			t.Fatal(err)
		}
		wrong(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, _, err := NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, volume.ErrStream) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}
