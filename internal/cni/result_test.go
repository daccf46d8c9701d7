package cni

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
)

// The results that are written here say what the library's would.
func TestPrintResult(t *testing.T) {
	t.Parallel()
	one, zero := 1, 0
	_, v4, _ := net.ParseCIDR("10.1.0.0/24")
	v4.IP = net.IPv4(10, 1, 0, 5)
	_, v6, _ := net.ParseCIDR("::/0")
	full := types100.Result{
		CNIVersion: "1.1.0",
		Interfaces: []*types100.Interface{{Name: "br0", Mac: "02:00:00:00:00:01", Mtu: 1500}, {Name: "eth0", Sandbox: "/run/netns/a\"b", SocketPath: "/s", PciID: "p"}},
		IPs:        []*types100.IPConfig{{Interface: &one, Address: *v4, Gateway: net.IPv4(10, 1, 0, 1)}, {Address: *v4}},
		Routes: []*types.Route{
			{Dst: *v6, GW: net.ParseIP("fd00::1"), MTU: 1400, AdvMSS: 1300, Priority: 5, Table: &one, Scope: &zero},
			{Dst: *v4},
		},
		DNS: types.DNS{Nameservers: []string{"10.1.0.53"}, Domain: "a.test", Search: []string{"b"}, Options: []string{"ndots:5"}},
	}
	for _, r := range []types100.Result{full, {CNIVersion: "1.1.0"}} {
		for _, version := range versions {
			v, err := r.GetAsVersion(version)
			if err != nil {
				continue // nothing to compare with
			}
			var got, want bytes.Buffer
			if err := printResult(&got, &r, version); err != nil {
				t.Fatal(err)
			}
			if err := v.PrintTo(&want); err != nil {
				t.Fatal(err)
			}
			var g, w any
			if err := json.Unmarshal(got.Bytes(), &g); err != nil {
				t.Fatalf("%s: %v", got.String(), err)
			}
			if err := json.Unmarshal(want.Bytes(), &w); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Errorf("version %s (-library +ours):\n%s", version, diff)
			}
		}
	}
}
