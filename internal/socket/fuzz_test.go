package socket

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// FuzzRequest reads what no HTTP client would send.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("POST /Plugin.Activate HTTP/1.1\r\nHost: plugin\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"))
	f.Add([]byte("POST /T.Echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}"))
	f.Add([]byte("GET /x?y HTTP/1.0\nConnection: close\n\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := readRequest(bufio.NewReaderSize(bytes.NewReader(data), maxHeader), io.Discard)
		if err != nil {
			return
		}
		if len(req.body) > len(data) || !strings.HasPrefix(req.path, "/") || strings.Contains(req.path, "?") {
			t.Errorf("%q was read as %s %s with %d bytes", data, req.method, req.path, len(req.body))
		}
	})
}
