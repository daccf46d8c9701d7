package ipam

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/jsontext"
)

func TestRecordAppendJSONIsMarshal(t *testing.T) {
	t.Parallel()
	a := held{netip.MustParsePrefix("10.1.0.5/24"), netip.MustParseAddr("10.1.0.1"), "space", 5}
	b := held{Addr: netip.MustParsePrefix("fd00::5/64"), Space: "other"}
	for _, r := range []record{
		{Addrs: []held{}},
		{"c1", "eth0", "ns/pod", "/run/netns/c1", 3, 4, time.Minute, time.Unix(1700000000, 5).UTC(), []held{a, b}},
	} {
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
