package cni

import (
	"encoding/json"
	"fmt"
)

// A document is an object of the configuration, read key by key: a struct would
// be learnt by reflection in every process that attaches one container. The
// first error of a document and the objects in it is kept for the end.
type document struct {
	all  map[string]json.RawMessage
	path string // of keys, with a dot at its end
	err  *error
}

func readDocument(stdin []byte) (document, error) {
	d := document{err: new(error)}
	if err := json.Unmarshal(stdin, &d.all); err != nil {
		return d, &Error{Code: CodeDecode, Msg: "read the network configuration: " + describe("", err)}
	}
	return d, nil
}

// has reports whether the key is there with a value.
func (d document) has(key string) bool {
	raw, ok := d.all[key]
	return ok && string(raw) != "null"
}

// into reads the value of key into v, which stays as it is if there is none.
func (d document) into(key string, v any) {
	if !d.has(key) {
		return
	}
	if err := json.Unmarshal(d.all[key], v); err != nil && *d.err == nil {
		*d.err = &Error{Code: CodeDecode, Msg: "read the network configuration: " + describe(d.path+key, err)}
	}
}

func (d document) text(key string) (s string) {
	d.into(key, &s)
	return s
}

// in returns the object of that key, an empty one if there is none.
func (d document) in(key string) document {
	inner := document{path: d.path + key + ".", err: d.err}
	d.into(key, &inner.all)
	return inner
}

// describe says where JSON is wrong in words of the file, not of Go.
func describe(key string, err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok {
		if e.Field != "" {
			key += "." + e.Field
		}
		want := e.Type.String()
		switch want {
		case "map[string]json.RawMessage":
			want = "an object"
		case "string":
			want = "a string"
		}
		return fmt.Sprintf("key %s: want %s, not %s", key, want, e.Value)
	}
	if key != "" {
		return "key " + key + ": " + err.Error()
	}
	return err.Error()
}
