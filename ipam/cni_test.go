package ipam

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bowline-net/bowline"
)

func at[T any](v T) *T { return &v }

func TestParseCNI(t *testing.T) {
	t.Parallel()
	one := []Set{{{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.1")}}}
	tests := []struct {
		name, conf, args string
		want             CNI
	}{
		{"ranges", `{"ipam": {"type": "bowline-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64", "gateway": "fd00:1::99"}]]}}`, "",
			CNI{Config: Config{Sets: []Set{one[0], {{Subnet: pfx("fd00:1::/64"), Gateway: ip("fd00:1::99")}}}}}},
		{"the short way", `{"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.20", "gateway": "10.1.0.254"}}`, "",
			CNI{Config: Config{Sets: []Set{{{pfx("10.1.0.0/24"), ip("10.1.0.10"), ip("10.1.0.20"), ip("10.1.0.254")}}}}}},
		{"the short way comes before ranges, those of the runtime before both", `{"ipam": {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.3.0.0/24"}], [{"subnet": "10.4.0.0/24"}]]}}`, "",
			CNI{Config: Config{Sets: []Set{{{Subnet: pfx("10.3.0.0/24"), Gateway: ip("10.3.0.1")}}, {{Subnet: pfx("10.4.0.0/24"), Gateway: ip("10.4.0.1")}}, one[0], {{Subnet: pfx("10.2.0.0/24"), Gateway: ip("10.2.0.1")}}}}}},
		{"ranges of the runtime only", `{"ipam": {"type": "host-local"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "", CNI{Config: Config{Sets: one}}},
		{"addresses in all three ways", `{"ipam": {"subnet": "10.1.0.0/24"}, "args": {"cni": {"ips": ["10.1.0.6/24"]}}, "runtimeConfig": {"ips": ["10.1.0.7", "::ffff:10.1.0.8"], "portMappings": [{}], "mac": "x"}}`, "IP=10.1.0.5",
			CNI{Config: Config{Sets: one}, Want: []netip.Addr{ip("10.1.0.5"), ip("10.1.0.6"), ip("10.1.0.7"), ip("10.1.0.8")}}},
		{"what a kubelet sends", `{"ipam": {"subnet": "10.1.0.0/24"}}`, "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y", CNI{Config: Config{Sets: one}, Name: "ns/web-0"}},
		{"unknown arguments, no IgnoreUnknown", `{"ipam": {"subnet": "10.1.0.0/24"}}`, "MAC=02:00:00:00:00:01;junk", CNI{Config: Config{Sets: one}}},
		{"not sticky", `{"ipam": {"subnet": "10.1.0.0/24", "sticky": "false"}}`, "K8S_POD_NAME=web-0", CNI{Config: Config{Sets: one}}},
		{"keys in another case, and a comment", `{"ipam": {"SUBNET": "10.1.0.0/24", "rangestart": "10.1.0.9", "_note": 1}}`, "", CNI{Config: Config{Sets: []Set{{{Subnet: pfx("10.1.0.0/24"), Start: ip("10.1.0.9"), Gateway: ip("10.1.0.1")}}}}}},
		{"nulls", `{"ipam": {"subnet": "10.1.0.0/24", "rangeStart": null, "ranges": null, "routes": null, "cooldown": null, "exclude": null}, "runtimeConfig": null, "args": null}`, "", CNI{Config: Config{Sets: one}}},
		{"ours", `{"ipam": {"subnet": "10.1.0.0/24", "exclude": ["10.1.0.64/26", "10.1.0.7"], "cooldown": 5, "dataDir": "/x", "resolvConf": "/etc/resolv.conf"}}`, "",
			CNI{Config: Config{Sets: one, Exclude: []netip.Prefix{pfx("10.1.0.64/26"), pfx("10.1.0.7/32")}, Cooldown: 5 * time.Second}, ResolvConf: "/etc/resolv.conf"}},
		{"routes", `{"ipam": {"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.9.9/16", "gw": "10.1.0.3", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 0, "scope": 253}]}}`, "",
			CNI{Config: Config{Sets: one}, Routes: []bowline.Route{{Dst: pfx("0.0.0.0/0")}, {Dst: pfx("10.9.0.0/16"), Via: ip("10.1.0.3"), MTU: 1400, AdvMSS: 1300, Priority: 7, Table: at(0), Scope: at(253)}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.Network = "web"
			if tt.want.Config.Cooldown == 0 {
				tt.want.Config.Cooldown = DefaultCooldown
			}
			got, err := ParseCNI([]byte(`{"cniVersion": "1.1.0", "name": "web", `+tt.conf[1:]), tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
		})
	}
}

func TestParseCNIErrors(t *testing.T) {
	t.Parallel()
	const ok = `"subnet": "10.1.0.0/24"`
	tests := []struct{ conf, args, want string }{
		{`{}`, "", `there is no section "ipam"; want one such as {"type": "bowline-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}]]}`},
		{`{"ipam": "x"}`, "", `ipam="x": want an object such as {"type": "bowline-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}]]}`},
		{`{"ipam": {"type": "bowline-ipam"}}`, "", `ranges="[]": want at least one range such as [[{"subnet": "10.1.0.0/24"}]]`},
		{`{"ipam": {"ranges": [[{"subnet": "10.0.0.0/33"}]]}}`, "", `ranges[0][0].subnet="10.0.0.0/33": want an IP prefix such as 10.1.0.0/24`},
		{`{"ipam": {"ranges": [{"subnet": "10.0.0.0/24"}]}}`, "", `ranges=[{"subnet": "10.0.0.0/24"}]: want a list of lists such as [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]`},
		{`{"ipam": {"ranges": [[]]}}`, "", `ranges[0]="[]": want at least one range such as [{"subnet": "10.1.0.0/24"}]`},
		{`{"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStrat": "10.0.0.9"}]]}}`, "", `ranges[0][0].rangeStrat: there is no such key; the nearest is rangeStart`},
		{`{"ipam": {"ranges": [[{"subnet": 10}]]}}`, "", `ranges[0][0].subnet=10: want a string`},
		{`{"ipam": {"subnet": "10.1.0.0/31"}}`, "", `subnet="10.1.0.0/31": want a prefix of at most /30, for the network and the gateway take an address each`},
		{`{"ipam": {"subnet": "10.1.0.7/24"}}`, "", `subnet="10.1.0.7/24": want 10.1.0.0/24, which has no host bits set`},
		{`{"ipam": {` + ok + `, "gateway": "10.1.0"}}`, "", `gateway="10.1.0": want an address of 10.1.0.0/24`},
		{`{"ipam": {` + ok + `}, "runtimeConfig": {"ipRanges": [[{"subnet": "x"}]]}}`, "", `runtimeConfig.ipRanges[0][0].subnet="x": want an IP prefix such as 10.1.0.0/24`},
		{`{"ipam": {` + ok + `, "ranges": [[{"subnet": "10.1.0.0/25"}]]}}`, "", `ranges[1][0]: 10.1.0.1-10.1.0.126 overlaps 10.1.0.1-10.1.0.254 of ranges[0][0]; want each address in one range only`},
		{`{"ipam": {` + ok + `, "excludes": []}}`, "", `excludes: there is no such key; the nearest is exclude`},
		{`{"ipam": {` + ok + `, "exclude": "10.1.0.7"}}`, "", `exclude="10.1.0.7": want a list such as ["10.1.0.64/26", "10.1.0.7"]`},
		{`{"ipam": {` + ok + `, "exclude": ["10.1.0.7/33"]}}`, "", `exclude[0]="10.1.0.7/33": want an IP prefix such as 10.1.0.64/26, or an address`},
		{`{"ipam": {` + ok + `, "cooldown": -1}}`, "", `cooldown=-1: want whole seconds, 0 to 31536000`},
		{`{"ipam": {` + ok + `, "cooldown": "1m"}}`, "", `cooldown="1m": want whole seconds, 0 to 31536000`},
		{`{"ipam": {` + ok + `, "quarantine": "soon"}}`, "", `quarantine="soon": want a time such as "10m" or seconds, above 0 and at most 31536000`},
		{`{"ipam": {` + ok + `, "quarantine": 0}}`, "", `quarantine=0: want a time such as "10m" or seconds, above 0 and at most 31536000`},
		{`{"ipam": {` + ok + `, "quarantine": "-1s"}}`, "", `quarantine="-1s": want a time such as "10m" or seconds, above 0 and at most 31536000`},
		{`{"ipam": {` + ok + `, "sticky": 1}}`, "", `sticky=1: want true or false`},
		{`{"ipam": {` + ok + `, "routes": [{"dst": "10.0.0.0"}]}}`, "", `routes[0].dst="10.0.0.0": want an IP prefix such as 0.0.0.0/0`},
		{`{"ipam": {` + ok + `, "routes": [{"dst": "0.0.0.0/0", "gw": "fd00::1"}]}}`, "", `routes[0].gw="fd00::1": want an address of the family of 0.0.0.0/0`},
		{`{"ipam": {` + ok + `, "routes": [{"dst": "0.0.0.0/0", "mtu": "big"}]}}`, "", `routes[0].mtu="big": want a whole number, 0 to 4294967295`},
		{`{"ipam": {` + ok + `}}`, "IP=10.1.0", `CNI_ARGS IP="10.1.0": want an IP address such as 10.1.0.5 or fd00:1::5`},
		{`{"ipam": {` + ok + `}, "runtimeConfig": {"ips": "10.1.0.5"}}`, "", `runtimeConfig.ips="10.1.0.5": want a list of addresses such as ["10.1.0.5"]`},
		{`{"ipam": {` + ok + `}, "args": {"cni": {"ips": ["10.1.0.5/x"]}}}`, "", `args.cni.ips[0]="10.1.0.5/x": want an IP address such as 10.1.0.5, perhaps with a prefix length`},
		{`{"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}}`, "", `ranges: cniVersion "0.2.0" has room for one IPv4 and one IPv6 address; want a cniVersion of at least 0.3.0, or one set of ranges per family`},
	}
	for _, tt := range tests {
		sep := ", "
		if tt.conf == "{}" {
			sep = ""
		}
		version := ""
		if !strings.Contains(tt.conf, "cniVersion") {
			version = `"cniVersion": "1.1.0", `
		}
		_, err := ParseCNI([]byte(`{`+version+`"name": "web"`+sep+tt.conf[1:]), tt.args)
		if want := `network "web": ipam: ` + tt.want; errText(err) != want || !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("ParseCNI(%s, %q):\n got %v\nwant %s", tt.conf, tt.args, err, want)
		}
	}
	for _, conf := range []string{``, `{`, `[]`, `{"name": 1}`, `{"ipam": {"subnet": "10.1.0.0/24"}}`} {
		if _, err := ParseCNI([]byte(conf), ""); !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("ParseCNI(%q): %v, want invalid", conf, err)
		}
	}
}

func TestParseDNS(t *testing.T) {
	t.Parallel()
	got := parseDNS("# comment\n; too\nnameserver 10.0.0.53\nnameserver\t2001:db8::53\ndomain example.org\nsearch a.org b.org\nsearch c.org\noptions ndots:5\nnameserver\n")
	want := DNS{[]string{"10.0.0.53", "2001:db8::53"}, "example.org", []string{"a.org", "b.org", "c.org"}, []string{"ndots:5"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if d, err := ReadDNS(""); err != nil || !reflect.DeepEqual(d, DNS{}) {
		t.Errorf("ReadDNS of no file = %+v, %v", d, err)
	}
	if _, err := ReadDNS(t.TempDir() + "/none"); err == nil {
		t.Error("ReadDNS of a missing file succeeded")
	}
}

// FuzzParseCNI: whatever comes, an error is one line that says which network it
// is about, and what is accepted can be allocated from.
func FuzzParseCNI(f *testing.F) {
	f.Add(`{"cniVersion":"1.1.0","name":"web","ipam":{"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.9"}],[{"subnet":"fd00:1::/64"}]],"routes":[{"dst":"::/0","gw":"fd00:1::1","table":7}],"exclude":["10.1.0.0/28"],"cooldown":3}}`, "IP=10.1.0.5")
	f.Add(`{"name":"web","ipam":{"subnet":"10.1.0.0/30","sticky":"true"},"args":{"cni":{"ips":["10.1.0.2/24"]}},"runtimeConfig":{"ips":["fd00::1"],"ipRanges":[[{"subnet":"0.0.0.0/0"}]]}}`, "K8S_POD_NAME=a;=;;")
	f.Fuzz(func(t *testing.T, conf, args string) {
		c, err := ParseCNI([]byte(conf), args)
		if err != nil {
			if !errors.Is(err, bowline.ErrInvalid) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error is %q, want one line that wraps ErrInvalid", err)
			}
			return
		}
		spaces, err := c.Config.spaces()
		if err != nil || c.Network == "" {
			t.Fatalf("accepted for network %q, but %v", c.Network, err)
		}
		_, _ = assign(spaces, c.Want)
		for _, s := range spaces {
			if a := s.at(s.size() - 1); !a.IsValid() {
				t.Fatalf("%s has no last address", s)
			}
		}
	})
}
