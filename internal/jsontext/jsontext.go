// Package jsontext writes JSON objects field by field. encoding/json learns each
// type by reflection once per process, which is a tenth of a process that
// attaches one container and ends; this is for what such a process writes.
package jsontext

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
)

// A Writer appends JSON text. Its methods write a key and a value in an object,
// or a value in a list where the key is empty; commas it sets itself.
type Writer struct {
	b     []byte
	inner bool // something stands before in this object or list
	err   error
}

// An Appender is a value that writes itself as one object, with the keys and
// values that encoding/json would give it.
type Appender interface {
	AppendJSON(w *Writer)
}

// Bytes returns the text, or the first error that a value gave.
func (w *Writer) Bytes() ([]byte, error) { return w.b, w.err }

func (w *Writer) key(k string) {
	if w.inner {
		w.b = append(w.b, ',')
	}
	w.inner = true
	if k != "" {
		w.b = append(quote(w.b, k), ':')
	}
}

// Object writes an object whose fields are what f writes.
func (w *Writer) Object(k string, f func()) { w.nest(k, '{', '}', f) }

// List writes a list whose values are what f writes.
func (w *Writer) List(k string, f func()) { w.nest(k, '[', ']', f) }

func (w *Writer) nest(k string, open, end byte, f func()) {
	w.key(k)
	w.b, w.inner = append(w.b, open), false
	f()
	w.b, w.inner = append(w.b, end), true
}

// String writes a string.
func (w *Writer) String(k, v string) {
	w.key(k)
	w.b = quote(w.b, v)
}

// OmitString writes a string unless it is empty.
func (w *Writer) OmitString(k, v string) {
	if v != "" {
		w.String(k, v)
	}
}

// Int writes a number.
func (w *Writer) Int(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

// OmitInt writes a number unless it is 0.
func (w *Writer) OmitInt(k string, v int64) {
	if v != 0 {
		w.Int(k, v)
	}
}

// Uint writes a number.
func (w *Writer) Uint(k string, v uint64) {
	w.key(k)
	w.b = strconv.AppendUint(w.b, v, 10)
}

// OmitUint writes a number unless it is 0.
func (w *Writer) OmitUint(k string, v uint64) {
	if v != 0 {
		w.Uint(k, v)
	}
}

// Addr writes an address as text, the zero Addr as an empty one.
func (w *Writer) Addr(k string, a netip.Addr) {
	w.key(k)
	w.b = append(w.b, '"')
	if a.IsValid() {
		w.b = a.AppendTo(w.b)
	}
	w.b = append(w.b, '"')
}

// Prefix writes a prefix as text, the zero Prefix as an empty one.
func (w *Writer) Prefix(k string, p netip.Prefix) {
	w.key(k)
	w.b = append(w.b, '"')
	if p.IsValid() {
		w.b = p.AppendTo(w.b)
	}
	w.b = append(w.b, '"')
}

// Time writes a time as RFC 3339.
func (w *Writer) Time(k string, t time.Time) {
	w.key(k)
	w.b = append(t.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
}

// Any writes what has no method of its own, by encoding/json.
func (w *Writer) Any(k string, v any) {
	w.key(k)
	text, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, text...)
}

// quote appends a JSON string (RFC 8259, 7). What is not plain ASCII is left to
// encoding/json, which knows of bytes that are no text.
func quote(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
