package jsontext

import (
	"encoding/json"
	"math"
	"net/netip"
	"testing"
	"time"
)

type sample struct {
	Text    string       `json:"text"`
	Maybe   string       `json:"maybe,omitempty"`
	N       int64        `json:"n"`
	M       int64        `json:"m,omitempty"`
	U       uint64       `json:"u,omitempty"`
	Addr    netip.Addr   `json:"addr"`
	Prefix  netip.Prefix `json:"prefix"`
	At      time.Time    `json:"at"`
	List    []string     `json:"list"`
	Inner   inner        `json:"inner"`
	Further []int        `json:"further"`
}

type inner struct {
	A string `json:"a"`
}

func (s sample) AppendJSON(w *Writer) {
	w.String("text", s.Text)
	w.OmitString("maybe", s.Maybe)
	w.Int("n", s.N)
	w.OmitInt("m", s.M)
	w.OmitUint("u", s.U)
	w.Addr("addr", s.Addr)
	w.Prefix("prefix", s.Prefix)
	w.Time("at", s.At)
	w.List("list", func() {
		for _, v := range s.List {
			w.String("", v)
		}
	})
	w.Object("inner", func() { w.String("a", s.Inner.A) })
	w.Any("further", s.Further)
}

func FuzzWriter(f *testing.F) {
	f.Add("plain", "", int64(0), uint64(0), []byte{10, 1, 0, 5}, int64(0))
	f.Add("a \"quoted\" <name> & \\ \x00\n\xff é \u2028", "x", int64(math.MinInt64), uint64(math.MaxUint64), make([]byte, 16), int64(1700000000123456789))
	f.Fuzz(func(t *testing.T, text, maybe string, n int64, u uint64, addr []byte, at int64) {
		a, _ := netip.AddrFromSlice(addr)
		s := sample{
			Text: text, Maybe: maybe, N: n, M: n, U: u, Addr: a, At: time.Unix(0, at).UTC(),
			List: []string{text, maybe}, Inner: inner{text}, Further: []int{1, 2},
		}
		if a.IsValid() {
			s.Prefix = netip.PrefixFrom(a, 7)
		}
		want, err := json.Marshal(s)
		if err != nil {
			t.Skip(err)
		}
		var w Writer
		w.Object("", func() { s.AppendJSON(&w) })
		got, err := w.Bytes()
		if err != nil || string(got) != string(want) {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
	})
}

func TestAnyFails(t *testing.T) {
	t.Parallel()
	var w Writer
	w.Object("", func() { w.Any("c", make(chan int)) })
	if _, err := w.Bytes(); err == nil {
		t.Error("a channel was written")
	}
}
