package socket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A CallError is what a server of ours answered in place of a result.
type CallError struct {
	Status int    // of HTTP
	Code   int    // that the server gave the cause, see [Handle]; 0: none
	Text   string // the server's own words
}

func (e *CallError) Error() string { return e.Text }

// Post makes one call of the method, such as "Dhcp.Acquire", of the server that
// listens on the unix socket at path, and reads its answer into answer.
//
// The error is a [*CallError] if the server answered with one. When ctx ends,
// the connection does, which ends the call on the server's side too.
func Post(ctx context.Context, path, method string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	status, text, err := exchange(c, method, body)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("call %s of %s: %w", method, path, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("call %s of %s: %w", method, path, err)
	case status == statusOK:
		return json.Unmarshal(text, answer)
	}
	var said struct {
		Err  string
		Code int
	}
	if json.Unmarshal(text, &said) != nil || said.Err == "" {
		said.Err = fmt.Sprintf("call %s of %s: status %d: %.200q", method, path, status, text)
	}
	return &CallError{status, said.Code, said.Err}
}

func exchange(c net.Conn, method string, body []byte) (status int, text []byte, err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /%s HTTP/1.1\r\nHost: bowline\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", method, contentType, len(body))
	b.Write(body)
	if _, err := c.Write(b.Bytes()); err != nil {
		return 0, nil, err
	}
	return readResponse(bufio.NewReaderSize(c, maxHeader))
}

// readResponse reads an answer as [writeResponse] writes it.
func readResponse(r *bufio.Reader) (status int, body []byte, err error) {
	line, err := readLine(r)
	if err != nil {
		return 0, nil, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	number, _, _ := strings.Cut(rest, " ")
	if status, err = strconv.Atoi(number); err != nil || !strings.HasPrefix(proto, "HTTP/1.") {
		return 0, nil, fmt.Errorf("status line %.100q: want HTTP/1.1 STATUS REASON", line)
	}
	size := -1
	for n := 0; line != ""; n++ {
		if line, err = readLine(r); err != nil {
			return 0, nil, err
		}
		if n == maxHeaders {
			return 0, nil, fmt.Errorf("answer has more than %d headers", maxHeaders)
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if size, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, nil, fmt.Errorf("header %.100q: want a number of bytes", line)
			}
		}
	}
	if size < 0 || size > maxBody {
		return 0, nil, errors.New("answer has no length, or too great a one")
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r, body)
	return status, body, err
}
