package cluster

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

// Written out, for what stands in stores must not change without a new version.
func keys() map[string]Key {
	return map[string]Key{
		"/bowline/v1/cluster":                  {Kind: KindCluster},
		"/bowline/v1/nodes/h1":                 {Kind: KindNode, Node: "h1"},
		"/bowline/v1/alive/h1":                 {Kind: KindAlive, Node: "h1"},
		"/bowline/v1/fence/h1":                 {Kind: KindFence, Node: "h1"},
		"/bowline/v1/nets/n1":                  {Kind: KindNetwork, Network: "n1"},
		"/bowline/v1/netname/acme/blue":        {Kind: KindNetworkName, Tenant: "acme", Name: "blue"},
		"/bowline/v1/netname/a%2Fb/%25%20":     {Kind: KindNetworkName, Tenant: "a/b", Name: "% "},
		"/bowline/v1/vni/16777215":             {Kind: KindVNI, VNI: 1<<24 - 1},
		"/bowline/v1/pool/default/10.1.0.0/16": {Kind: KindPool, Space: "default", Prefix: netip.MustParsePrefix("10.1.0.0/16")},
		"/bowline/v1/blk/n1/10.1.2.0/26":       {Kind: KindBlock, Network: "n1", Prefix: netip.MustParsePrefix("10.1.2.0/26")},
		"/bowline/v1/blk/n1/fd00::/112":        {Kind: KindBlock, Network: "n1", Prefix: netip.MustParsePrefix("fd00::/112")},
		"/bowline/v1/ip/n1/10.1.2.3":           {Kind: KindAddress, Network: "n1", Addr: netip.MustParseAddr("10.1.2.3")},
		"/bowline/v1/ip/n1/fd00::3":            {Kind: KindAddress, Network: "n1", Addr: netip.MustParseAddr("fd00::3")},
		"/bowline/v1/slice/n1/h1":              {Kind: KindSlice, Network: "n1", Node: "h1"},
		"/bowline/v1/svc/n1/web":               {Kind: KindService, Network: "n1", Name: "web"},
		"/bowline/v1/policy/acme/deny":         {Kind: KindPolicy, Tenant: "acme", Name: "deny"},
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for text, want := range keys() {
		if got := want.String(); got != text {
			t.Errorf("%+v is %s, want %s", want, got, text)
		}
		if got, err := ParseKey(text); err != nil || got != want {
			t.Errorf("ParseKey(%s) = %+v, %v; want %+v", text, got, err, want)
		}
		if at := want.Below(); want.Kind != KindCluster && !Within(text+"/", at) {
			t.Errorf("%s is not below %s", text, at)
		}
	}
}

func TestKeyIsOneText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "/", "/bowline/v1/", "/bowline/v2/nodes/h1", "/bowline/v1/cluster/", "/bowline/v1/cluster/x", "/bowline/v1/shoes/h1",
		"/bowline/v1/nodes", "/bowline/v1/nodes/", "/bowline/v1/nodes/h1/", "/bowline/v1/nodes/h1/x", "/bowline/v1/nodes/%68", "/bowline/v1/nodes/a%2fb", "/bowline/v1/nodes/%zz",
		"/bowline/v1/vni/0", "/bowline/v1/vni/007", "/bowline/v1/vni/16777216", "/bowline/v1/vni/-1",
		"/bowline/v1/blk/n1", "/bowline/v1/blk/n1/10.1.2.1/24", "/bowline/v1/blk/n1/10.1.2.0", "/bowline/v1/blk//10.1.2.0/24", "/bowline/v1/blk/n1/FD00::/64", "/bowline/v1/blk/n1/::ffff:10.1.2.0/120",
		"/bowline/v1/ip/n1/10.1.2.3%eth0", "/bowline/v1/ip/n1/fe80::1%eth0", "/bowline/v1/ip/n1/::ffff:10.1.2.3", "/bowline/v1/ip/n1/010.1.2.3", "/bowline/v1/ip/n1/",
	} {
		k, err := ParseKey(text)
		if !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("ParseKey(%q) = %+v, %v; want %v", text, k, err, bowline.ErrInvalid)
		}
	}
	_, err := ParseKey("/bowline/v1/vni/0")
	if want := `invalid configuration: key "/bowline/v1/vni/0": want fields as in /bowline/v1/vni/4096`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key  Key
		want string
	}{
		{Key{Kind: KindNode}, "/bowline/v1/nodes/"},
		{Key{Kind: KindBlock}, "/bowline/v1/blk/"},
		{Key{Kind: KindBlock, Network: "n1"}, "/bowline/v1/blk/n1/"},
		{Key{Kind: KindBlock, Network: "a/b"}, "/bowline/v1/blk/a%2Fb/"},
		{Key{Kind: KindPolicy, Tenant: "acme"}, "/bowline/v1/policy/acme/"},
		{Key{Kind: KindPolicy, Name: "deny"}, "/bowline/v1/policy/"},
	} {
		if got := tt.key.Below(); got != tt.want {
			t.Errorf("%+v: below is %s, want %s", tt.key, got, tt.want)
		}
	}
}

func FuzzKey(f *testing.F) {
	for text := range keys() {
		f.Add(text, "acme", "a/b")
	}
	f.Fuzz(func(t *testing.T, text, one, two string) {
		if k, err := ParseKey(text); err == nil && k.String() != text {
			t.Errorf("%q is read as %+v, which is %q", text, k, k)
		}
		k := Key{Kind: KindNetworkName, Tenant: one, Name: two}
		got, err := ParseKey(k.String())
		if one == "" || two == "" {
			if err == nil {
				t.Errorf("%q is read as %+v, want an error: a field is empty", k, got)
			}
		} else if err != nil || got != k {
			t.Errorf("%+v is read as %+v, %v", k, got, err)
		} else if strings.Count(k.String(), "/") != 5 {
			t.Errorf("%+v is %q, want two parts", k, k)
		}
	})
}
