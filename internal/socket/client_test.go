package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

type codedError struct{ error }

func (codedError) Code() int { return 11 }

func TestPost(t *testing.T) {
	t.Parallel()
	m := newMux(io.Discard)
	entered, left := make(chan struct{}), make(chan struct{})
	Handle(m, "T.Coded", func(context.Context, echo) (echo, error) { return echo{}, codedError{errors.New("try again")} })
	Handle(m, "T.Wait", func(ctx context.Context, _ echo) (echo, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return echo{}, ctx.Err()
	})
	path, _ := start(t, m)
	var got echo
	if err := Post(t.Context(), path, "T.Echo", echo{"a"}, &got); err != nil || got.Text != "a" {
		t.Errorf("got %+v, %v", got, err)
	}
	for method, want := range map[string]CallError{
		"T.Fail": {500, 0, `no "room"`}, "T.Coded": {500, 11, "try again"}, "T.Nothing": {404, 0, "/T.Nothing: no such method here"},
	} {
		err := Post(t.Context(), path, method, echo{}, &got)
		var said *CallError
		if !errors.As(err, &said) || *said != want {
			t.Errorf("%s: got %v, want %+v", method, err, want)
		}
	}
	if err := Post(t.Context(), filepath.Join(t.TempDir(), "none"), "T.Echo", echo{}, &got); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("no server: %v", err)
	}
	// A caller that gives up ends the call.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if err := Post(ctx, path, "T.Wait", echo{}, &got); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	<-left
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 500 Internal Server Error\nContent-Length: 99999999999\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, body, err := readResponse(bufio.NewReaderSize(bytes.NewReader(data), maxHeader))
		if err == nil && len(body) > len(data) {
			t.Errorf("%q was read as %d bytes", data, len(body))
		}
	})
}
