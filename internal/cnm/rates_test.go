package cnm

import (
	"errors"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestRates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		network, own map[string]string
		want         bowline.Rates
		wantErr      error
	}{
		{"none", nil, nil, bowline.Rates{}, nil},
		{"of the network", map[string]string{"ingressRate": "10m", "ingressBurst": "1m", "egressRate": "20m"}, nil,
			bowline.Rates{IngressRate: 10e6, IngressBurst: 1e6, EgressRate: 20e6}, nil},
		{"own in one direction", map[string]string{"ingressRate": "10m", "ingressBurst": "1m", "egressRate": "20m"}, map[string]string{"ingressRate": "5m"},
			bowline.Rates{IngressRate: 5e6, EgressRate: 20e6}, nil},
		{"lifted for one", map[string]string{"egressRate": "20m"}, map[string]string{"egressRate": "none"}, bowline.Rates{}, nil},
		{"own burst without a rate", map[string]string{"egressRate": "20m"}, map[string]string{"egressBurst": "1m"}, bowline.Rates{}, bowline.ErrInvalid},
		{"wrong", nil, map[string]string{"egressRate": "fast"}, bowline.Rates{}, bowline.ErrInvalid},
	}
	for _, tt := range tests {
		got, err := rates(Network{ID: "web", Options: tt.network}, bowline.EndpointSpec{ID: "c1", Options: tt.own})
		if !errors.Is(err, tt.wantErr) || err == nil && got != tt.want {
			t.Errorf("%s: rates = %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.wantErr)
		}
	}
}

func TestSysctlsRefused(t *testing.T) {
	t.Parallel()
	if err := refuseSysctls(map[string]string{"sysctl": "{}"}); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("refuseSysctls: %v, want ErrInvalid", err)
	}
	if err := refuseSysctls(map[string]string{"mtu": "1400"}); err != nil {
		t.Error(err)
	}
}
