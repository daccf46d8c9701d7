package bowline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]uint64{
		"0": 0, "none": 0, "10000000": 10e6, "18446744073709551615": 1<<64 - 1, "1000bit": 1000,
		"100mbit": 100e6, "100M": 100e6, "2.5gbit": 2.5e9, "5G": 5e9, "1tbit": 1e12, "64kibit": 65536, "1Mi": 1 << 20, " 1k ": 1000,
	} {
		if got, err := bowline.ParseRate(in); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "bit", "-1", "10mbps", "fast", "1e3", "inf", "0x10", "1.2.3", "99999999t", "nan"} {
		if got, err := bowline.ParseRate(in); !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("ParseRate(%q) = %d, %v; want ErrInvalid", in, got, err)
		}
	}
}

func TestFormatRate(t *testing.T) {
	t.Parallel()
	for in, want := range map[uint64]string{0: "none", 1: "1bit", 1500: "1500bit", 10e6: "10mbit", 2.5e9: "2500mbit", 1e12: "1tbit", 1e15: "1000tbit"} {
		got := bowline.FormatRate(in)
		if back, err := bowline.ParseRate(got); got != want || err != nil || back != in {
			t.Errorf("FormatRate(%d) = %q, read back %d, %v; want %q", in, got, back, err, want)
		}
	}
}

func TestRatesOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options map[string]string
		want    bowline.Rates
		wantErr string
	}{
		{"none", map[string]string{"mtu": "1400"}, bowline.Rates{}, ""},
		{"all", map[string]string{"ingressRate": "10m", "ingressBurst": "80k", "egressRate": "5000", "egressBurst": "8"},
			bowline.Rates{IngressRate: 10e6, IngressBurst: 80e3, EgressRate: 5000, EgressBurst: 8}, ""},
		{"largest burst", map[string]string{"egressRate": "1g", "egressBurst": "34359738359"}, bowline.Rates{EgressRate: 1e9, EgressBurst: 34359738359}, ""},
		{"burst alone", map[string]string{"ingressBurst": "8"}, bowline.Rates{}, "ingressBurst=8: want an ingressRate with it"},
		{"burst of 4 GiB", map[string]string{"egressRate": "1g", "egressBurst": "34359738360"}, bowline.Rates{}, "egressBurst=34359738360: want less than 34359738360 bits, 4 GiB"},
		{"tiny", map[string]string{"egressRate": "999"}, bowline.Rates{}, "egressRate=999: want at least 1000 bit/s, or 0 for no limit"},
		{"no rate", map[string]string{"egressRate": "10mbps"}, bowline.Rates{}, `option egressRate="10mbps": want bits, such as 10000000, 100mbit or 2.5gbit`},
	}
	for _, tt := range tests {
		got, err := bowline.RatesOf(tt.options)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, tt.wantErr) || (tt.wantErr == "") != (err == nil) || err == nil && got != tt.want {
			t.Errorf("%s: RatesOf = %+v, %v; want %+v, %q", tt.name, got, err, tt.want, tt.wantErr)
		}
	}
}
