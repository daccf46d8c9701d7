package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestConfList(t *testing.T) {
	t.Parallel()
	s := NetworkSpec{
		Name: "web", Driver: "bridge", Subnets: prefixes("10.1.0.0/24", "fd00:1::/64"),
		Gateways: []netip.Addr{netip.MustParseAddr("fd00:1::9")}, NoICC: true, MTU: 1400,
		Options: map[string]string{"vlan": "7", "hairpinMode": "true", "bridge": "br7", "isGateway": "false"},
	}
	got, err := confList(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"cniVersion":"1.1.0","name":"web","plugins":[{"type":"bowline-bridge","capabilities":{"bandwidth":true,"ips":true,"mac":true,"portMappings":true},
		"isGateway":false,"isDefaultGateway":true,"ipMasq":true,"icc":false,"mtu":1400,"vlan":7,"hairpinMode":true,"bridge":"br7",
		"ipam":{"type":"bowline-ipam","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64","gateway":"fd00:1::9"}]]}}]}`
	if diff := cmp.Diff(value(t, want), value(t, string(got))); diff != "" {
		t.Error(diff)
	}
	list, err := parseConf(got, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.Subnets, pools(list), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	s.Gateways = append(s.Gateways, netip.MustParseAddr("10.2.0.1"))
	if _, err := confList(s); err == nil || !strings.Contains(err.Error(), "want addresses inside the subnets") {
		t.Errorf("gateway outside: got %v", err)
	}
}

func value(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParseConf(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, conf, as, want, wantErr string }{
		{"list", `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"x"},{"type":"y"}]}`, "", "a x 1.0.0", ""},
		{"single", `{"cniVersion":"0.4.0","name":"a","type":"x","ipam":{"subnet":"10.0.0.0/8"}}`, "", "a x 0.4.0", ""},
		{"renamed", `{"cniVersion":"0.4.0","name":"a","type":"x"}`, "b", "b x 0.4.0", ""},
		{"no name", `{"cniVersion":"0.4.0","type":"x"}`, "", "", "network configuration: error parsing configuration list: no name"},
		{"bad name", `{"cniVersion":"0.4.0","name":"-a","type":"x"}`, "", "", `network name "-a": want 1 to 64 letters`},
		{"not JSON", `hello`, "", "", "network configuration: invalid character"},
		{"no plugins", `{"cniVersion":"0.4.0","name":"a","plugins":[]}`, "", "", "no plugins in list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := parseConf([]byte(tt.conf), tt.as)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := list.Name + " " + driverOf(list) + " " + list.CNIVersion; got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFreeSubnet(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		v6    bool
		taken []netip.Prefix
		want  string
	}{
		{"first", false, nil, "10.200.0.0/24"},
		{"wider one in the way", false, prefixes("10.200.0.0/15", "10.202.0.128/25"), "10.202.1.0/24"},
		{"others in the way", false, prefixes("10.0.0.0/9", "fd00::/8"), "10.200.0.0/24"},
		{"none", false, prefixes("10.0.0.0/8"), ""},
		{"no unique local", true, prefixes("fd00::/8"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := freeSubnet("web", tt.v6, tt.taken)
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "--subnet") {
					t.Errorf("got %v, %v", got, err)
				}
			} else if got.String() != tt.want {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
	a, _ := freeSubnet("web", true, nil)
	b, _ := freeSubnet("wob", true, nil)
	c, _ := freeSubnet("web", true, []netip.Prefix{a})
	if a == b || a == c || a.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Overlaps(a) {
		t.Errorf("IPv6: %v, %v, %v", a, b, c)
	}
}

func TestCreateNetwork(t *testing.T) {
	h := newHost(t)
	h.run("", "ip", "link", "set", "lo", "up")
	h.run("", "ip", "addr", "add", "10.200.0.1/24", "dev", "lo")
	h.run("", "ip", "route", "add", "10.200.1.0/24", "dev", "lo", "table", "77")
	// Our own plugins, as far as creating a network asks them.
	dir := t.TempDir()
	script := "#!/bin/sh\nif [ $CNI_COMMAND = VERSION ]; then echo '{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}'; exit; fi\n" +
		"grep -q mut && { echo '{\"cniVersion\":\"1.1.0\",\"code\":7,\"msg\":\"option mut: want mtu\"}'; exit 1; }\nexit 0\n"
	if err := os.WriteFile(dir+"/bowline-bridge", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BOWLINE_CNI_PATH", dir)
	h.r = New(&h.log)
	tests := []struct {
		name    string
		spec    NetworkSpec
		want    string // subnets
		wantErr string
	}{
		{"free", NetworkSpec{Name: "a"}, "[10.200.2.0/24]", ""},
		{"next free", NetworkSpec{Name: "b"}, "[10.200.3.0/24]", ""},
		{"named", NetworkSpec{Name: "c", Subnets: prefixes("10.7.0.0/16", "fd07::/64"), IPv6: true}, "[10.7.0.0/16 fd07::/64]", ""},
		{"name taken", NetworkSpec{Name: "a"}, "", `network "a" exists already`},
		{"taken by a network", NetworkSpec{Name: "d", Subnets: prefixes("10.7.1.0/24")}, "", "overlaps 10.7.0.0/16"},
		{"taken by the host", NetworkSpec{Name: "d", Subnets: prefixes("10.200.0.0/16")}, "", "overlaps 10.200."},
		{"overlap", NetworkSpec{Name: "d", Subnets: prefixes("10.8.0.0/16", "10.8.1.0/24")}, "", "10.8.0.0/16 and 10.8.1.0/24 overlap"},
		{"bad name", NetworkSpec{Name: "a b"}, "", `network name "a b": want`},
		{"no such driver", NetworkSpec{Name: "d", Driver: "nope"}, "", `network "d": failed to find plugin "bowline-nope" in path [`},
		{"typo", NetworkSpec{Name: "d", Options: map[string]string{"mut": "1400"}}, "", "option mut: want mtu"},
		{"plugin of an older version", NetworkSpec{Conf: []byte(`{"cniVersion":"0.4.0","name":"d","type":"bowline-bridge"}`)}, "", `network "d": cniVersion "0.4.0": bowline-bridge wants one of 1.1.0`},
	}
	for _, tt := range tests {
		err := h.try(func(ctx context.Context) error {
			n, err := h.r.CreateNetwork(ctx, tt.spec)
			if got := fmt.Sprint(n.Subnets); err == nil && got != tt.want {
				t.Errorf("%s: subnets are %s, want %s", tt.name, got, tt.want)
			}
			return err
		})
		if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.wantErr)
		}
	}
}
