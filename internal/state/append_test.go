package state

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/jsontext"
)

// fill gives every field of v a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1700000000, 123456789).UTC()))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("fd00::5")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.1.0.0/24")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"b": "<1>", "a": "2"}))
	case reflect.String:
		v.SetString("some \"text\" é")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(7)
	case reflect.Int:
		v.SetInt(-7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	default:
		t.Fatalf("a field of kind %v: teach this test and AppendJSON", v.Kind())
	}
}

func TestAppendJSONIsMarshal(t *testing.T) {
	t.Parallel()
	var full Endpoint
	fill(t, reflect.ValueOf(&full).Elem())
	for _, r := range []Endpoint{{}, full} {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var w jsontext.Writer
		w.Object("", func() { r.AppendJSON(&w) })
		if got, err := w.Bytes(); err != nil || string(got) != string(want) {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
	}
}
