package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWireFormat sends what no Go client would, or what it does without saying.
func TestWireFormat(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxHeader)
	tests := []struct {
		name, send string
		want       []string // lines that the answer must have
	}{
		{"two calls on one connection", "POST /T.Echo HTTP/1.1\r\nHost: p\r\nContent-Length: 12\r\n\r\n{\"Text\":\"a\"}POST /T.Echo HTTP/1.1\r\ncontent-length: 12\r\nConnection: close\r\n\r\n{\"Text\":\"b\"}",
			[]string{"HTTP/1.1 200 OK", `{"Text":"a"}`, "Connection: close", `{"Text":"b"}`}},
		{"bare line ends", "POST /T.Capabilities HTTP/1.1\nConnection: close\n\n", []string{"HTTP/1.1 200 OK", `{"Text":"local"}`}},
		{"HTTP/1.0 ends the connection", "POST /T.Capabilities HTTP/1.0\r\n\r\n", []string{"HTTP/1.1 200 OK", "Connection: close"}},
		{"query is not part of the method", "POST /T.Capabilities?a=b HTTP/1.1\r\nConnection: close\r\n\r\n", []string{"HTTP/1.1 200 OK"}},
		{"a client that asks first", "POST /T.Echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"Text\":\"a\"}",
			[]string{"HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"}},
		{"no HTTP", "hello\r\n\r\n", []string{"HTTP/1.1 400 Bad Request", `{"Err":"request line \"hello\": want METHOD /PATH HTTP/1.1"`}},
		{"chunks", "POST /T.Echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{"HTTP/1.1 411 Length Required"}},
		{"negative length", "POST /T.Echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", []string{"HTTP/1.1 400 Bad Request"}},
		{"too long a body", "POST /T.Echo HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", []string{"HTTP/1.1 413 Content Too Large"}},
		{"too long a header", "POST /T.Echo HTTP/1.1\r\nX: " + long + "\r\n\r\n", []string{"HTTP/1.1 431 Request Header Fields Too Large"}},
		{"too many headers", "POST /T.Echo HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHeaders+1) + "\r\n", []string{"HTTP/1.1 431 Request Header Fields Too Large"}},
		{"folded header", "POST /T.Echo HTTP/1.1\r\nX: y\r\n z\r\n\r\n", []string{"HTTP/1.1 400 Bad Request"}},
		{"half a request", "POST /T.Echo HTTP/1.1\r\nContent-Length: 12\r\n\r\n{", nil},
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, newMux(io.Discard), l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			_ = c.(*net.UnixConn).CloseWrite()
			got, err := io.ReadAll(c) // the server must hang up by itself
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(got), want) {
					t.Errorf("answer lacks %q: %q", want, got)
				}
			}
			if tt.want == nil && len(got) > 0 {
				t.Errorf("answer to half a request: %q", got)
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("POST /T.Echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("POST /a?b HTTP/1.0\nExpect: 100-continue\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readRequest(bufio.NewReaderSize(bytes.NewReader(data), maxHeader), io.Discard)
		if err == nil && (r.method == "" || !strings.HasPrefix(r.path, "/") || len(r.body) > len(data)) {
			t.Errorf("%q was read as %+v", data, r)
		}
	})
}
