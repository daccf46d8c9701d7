package main

import (
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	tests := []struct{ key, value, want, wantErr string }{
		{"conditionsV4", `["ip","saddr","10.0.0.0/8"]`, "saddr 10.0.0.0/8", ""},
		{"conditionsV4", `ip saddr != 10.1.2.3 iifname "eth0"`, "saddr != 10.1.2.3/32; iifname eth0", ""},
		{"conditionsV4", `["-s","192.0.2.0/24"]`, "saddr 192.0.2.0/24", ""},
		{"conditionsV4", `["!","-s","192.0.2.9/24","-d","192.0.2.1"]`, "saddr != 192.0.2.0/24; daddr 192.0.2.1/32", ""},
		{"conditionsV4", `["-s","!","192.0.2.1"]`, "saddr != 192.0.2.1/32", ""},
		{"conditionsV4", `-i eth+ -m mark ! --mark 0x1/0xff -m tcp --sport 1024:65535`, "iifname eth+; mark != 0x1/0xff; th sport 1024-65535", ""},
		{"conditionsV4", `meta mark 4 meta iifname wg* tcp sport != 53`, "mark 0x4/0xffffffff; iifname wg+; th sport != 53-53", ""},
		{"conditionsV6", `ip6 saddr fd00::/8`, "saddr fd00::/8", ""},
		{"conditionsV6", `["-s","fd00::1"]`, "saddr fd00::1/128", ""},
		{"conditionsV4", ``, "", ""},
		{"conditionsV4", `["-p","tcp"]`, "", "-p"},
		{"conditionsV4", `ct state new`, "", "ct"},
		{"conditionsV4", `["-s"]`, "", "-s"},
		{"conditionsV4", `-s fd00::1`, "", "fd00::1"},
		{"conditionsV4", `-s 10.0.0.1,10.0.0.2`, "", "10.0.0.1,10.0.0.2"},
		{"conditionsV6", `ip saddr 10.0.0.0/8`, "", "ip"},
		{"conditionsV4", `["-s"`, "", "list"},
		{"conditionsV4", `!`, "", "!"},
		{"conditionsV4", `! -m mark --mark 1`, "", "! before"},
		{"conditionsV4", `--mark x`, "", "--mark x"},
		{"conditionsV4", `--sport 9-1`, "", "--sport 9-1"},
		{"conditionsV4", `-i a/b`, "", "-i a/b"},
	}
	for _, tt := range tests {
		o, err := parseOptions(bowline.NetworkConfig{ID: "web", Options: map[string]string{tt.key: tt.value}})
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.Contains(err.Error(), tt.key) {
				t.Errorf("%s=%s: %v, want an error that names %s", tt.key, tt.value, err, tt.wantErr)
			}
			continue
		}
		cs := o.conditions4
		if tt.key == "conditionsV6" {
			cs = o.conditions6
		}
		var got []string
		for _, c := range cs {
			got = append(got, c.String())
		}
		if err != nil || strings.Join(got, "; ") != tt.want {
			t.Errorf("%s=%s: %q, %v; want %q", tt.key, tt.value, got, err, tt.want)
		}
	}
}
