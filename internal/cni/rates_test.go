package cni

import (
	"errors"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

// TestRates: what engines send for "no burst in particular" is none.
func TestRates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, conf string
		want       bowline.Rates
		wantErr    string
	}{
		{"nothing", `{}`, bowline.Rates{}, ""},
		{"keys of the configuration win", `{"ingressRate": 1000, "ingressBurst": 4294967295, "runtimeConfig": {"bandwidth": {"egressRate": 2000}}}`,
			bowline.Rates{IngressRate: 1000, IngressBurst: 4294967295}, ""},
		{"an engine that says", `{"runtimeConfig": {"bandwidth": {"ingressRate": 1000, "ingressBurst": 8000, "egressRate": 2000, "egressBurst": 16000}}}`,
			bowline.Rates{IngressRate: 1000, IngressBurst: 8000, EgressRate: 2000, EgressBurst: 16000}, ""},
		{"dockershim", `{"runtimeConfig": {"bandwidth": {"ingressRate": 1000, "ingressBurst": 2147483647}}}`, bowline.Rates{IngressRate: 1000}, ""},
		{"containerd", `{"runtimeConfig": {"bandwidth": {"egressRate": 1000, "egressBurst": 4294967295}}}`, bowline.Rates{EgressRate: 1000}, ""},
		{"CRI-O", `{"runtimeConfig": {"bandwidth": {"egressRate": 1000, "egressBurst": 34359738359}}}`, bowline.Rates{EgressRate: 1000}, ""},
		{"a burst without a rate", `{"egressBurst": 8}`, bowline.Rates{}, "configuration: egressBurst=8: want an egressRate with it"},
		{"too little", `{"runtimeConfig": {"bandwidth": {"egressRate": 5}}}`, bowline.Rates{}, "runtimeConfig: bandwidth: egressRate=5: want at least 1000 bit/s"},
	}
	for _, tt := range tests {
		d, err := readDocument([]byte(tt.conf))
		if err != nil {
			t.Fatal(err)
		}
		got, err := rates(d)
		switch {
		case tt.wantErr == "" && (err != nil || got != tt.want):
			t.Errorf("%s: rates = %+v, %v; want %+v", tt.name, got, err, tt.want)
		case tt.wantErr != "" && (!errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), tt.wantErr)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.wantErr)
		}
	}
}
