package socket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The part of HTTP/1.1 (RFC 9112) that Docker's plugin protocol uses: POST with
// a Content-Length, one answer, connections that stay open. net/http would do
// the same, but every CNI command of a plugin would pay for linking it: 0.4 to
// 0.6 ms of process start, a tenth of a whole ADD.

// Statuses that we answer with.
const (
	statusOK         = 200
	statusBadRequest = 400
	statusNotFound   = 404
	statusNotAllowed = 405
	statusNoLength   = 411
	statusTooLarge   = 413
	statusHeaders    = 431
	statusError500   = 500
)

func reason(status int) string {
	switch status {
	case statusOK:
		return "OK"
	case statusBadRequest:
		return "Bad Request"
	case statusNotFound:
		return "Not Found"
	case statusNotAllowed:
		return "Method Not Allowed"
	case statusNoLength:
		return "Length Required"
	case statusTooLarge:
		return "Content Too Large"
	case statusHeaders:
		return "Request Header Fields Too Large"
	}
	return "Internal Server Error"
}

// maxHeader bounds the request line and each header line, maxHeaders their
// number.
const (
	maxHeader  = 16 << 10
	maxHeaders = 100
)

// A request is one request, read whole.
type request struct {
	method, path string
	traceparent  string // header of that name (W3C Trace Context)
	body         []byte
	last         bool // the client wants no more on this connection
}

// readRequest reads the next request. A [*statusError] is to be answered, and
// the connection closed, for what follows cannot be told from what was not
// read; any other error is that of the connection. w is for the permission to
// go on that some clients wait for before they send a body.
func readRequest(r *bufio.Reader, w io.Writer) (request, error) {
	line, err := readLine(r)
	if err != nil {
		return request{}, err
	}
	method, rest, ok1 := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !strings.HasPrefix(proto, "HTTP/1.") || !strings.HasPrefix(target, "/") {
		return request{}, &statusError{statusBadRequest, fmt.Sprintf("request line %.100q: want METHOD /PATH HTTP/1.1", line)}
	}
	path, _, _ := strings.Cut(target, "?")
	req := request{method: method, path: path, last: proto == "HTTP/1.0"}
	size, waits := 0, false
	for n := 0; ; n++ {
		if line, err = readLine(r); err != nil {
			return request{}, err
		}
		if line == "" {
			break
		}
		if n == maxHeaders {
			return request{}, &statusError{statusHeaders, fmt.Sprintf("request has more than %d headers", maxHeaders)}
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if size, err = strconv.Atoi(value); err != nil || size < 0 {
				return request{}, &statusError{statusBadRequest, fmt.Sprintf("header Content-Length=%.40q: want a number of bytes", value)}
			}
		case "transfer-encoding":
			return request{}, &statusError{statusNoLength, fmt.Sprintf("header Transfer-Encoding=%.40q: want a Content-Length instead", value)}
		case "connection":
			req.last = req.last || strings.EqualFold(value, "close")
		case "traceparent":
			req.traceparent = value
		case "expect":
			waits = strings.EqualFold(value, "100-continue")
		default:
			if !ok || strings.ContainsAny(name, " \t") {
				return request{}, &statusError{statusBadRequest, fmt.Sprintf("header line %.100q: want NAME: VALUE", line)}
			}
		}
	}
	if size > maxBody {
		return request{}, &statusError{statusTooLarge, fmt.Sprintf("%s: request is larger than %d bytes", path, maxBody)}
	}
	if waits && size > 0 {
		if _, err := io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return request{}, err
		}
	}
	req.body = make([]byte, size)
	_, err = io.ReadFull(r, req.body)
	return req, err
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", &statusError{statusHeaders, fmt.Sprintf("request has a header line of more than %d bytes", maxHeader)}
	}
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}

// writeResponse answers. last tells the client that the connection ends.
func writeResponse(w io.Writer, status int, body []byte, last bool) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", status, reason(status), contentType, len(body))
	if status == statusNotAllowed {
		b.WriteString("Allow: POST\r\n")
	}
	if last {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	_, err := w.Write(b.Bytes())
	return err
}
