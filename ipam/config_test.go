package ipam

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	type r = Range
	tests := []struct {
		name    string
		sets    []Set
		exclude []netip.Prefix
		want    string // spaces
		wantErr string
	}{
		{"defaults", []Set{{r{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.1")}}}, nil, "10.1.0.2-10.1.0.254", ""},
		{"no gateway", []Set{{r{Subnet: pfx("10.1.0.0/24")}}}, nil, "10.1.0.1-10.1.0.254", ""},
		{"IPv6 ends with the last address", []Set{{r{Subnet: pfx("fd00:1::/112"), Gateway: ip("fd00:1::1")}}}, nil, "fd00:1::2-fd00:1::ffff", ""},
		{"gateway in the middle", []Set{{r{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.9")}}}, nil, "10.1.0.1-10.1.0.8,10.1.0.10-10.1.0.254", ""},
		{"gateway elsewhere", []Set{{r{Subnet: pfx("10.1.0.0/29"), Gateway: ip("10.9.0.1")}}}, nil, "10.1.0.1-10.1.0.6", ""},
		{"start and end", []Set{{r{pfx("10.1.0.0/24"), ip("10.1.0.10"), ip("10.1.0.20"), ip("10.1.0.1")}}}, nil, "10.1.0.10-10.1.0.20", ""},
		{"start at network, end at broadcast", []Set{{r{pfx("10.1.0.0/29"), ip("10.1.0.0"), ip("10.1.0.7"), ip("10.1.0.1")}}}, nil, "10.1.0.2-10.1.0.6", ""},
		{"smallest", []Set{{r{Subnet: pfx("10.1.0.0/30"), Gateway: ip("10.1.0.1")}}, {r{Subnet: pfx("fd00:1::/126"), Gateway: ip("fd00:1::1")}}}, nil, "10.1.0.2-10.1.0.2 fd00:1::2-fd00:1::3", ""},
		{"two ranges of a set, in their order", []Set{{r{Subnet: pfx("10.2.0.0/30"), Gateway: ip("10.2.0.1")}, r{Subnet: pfx("10.1.0.0/30"), Gateway: ip("10.1.0.1")}}}, nil, "10.2.0.2-10.2.0.2,10.1.0.2-10.1.0.2", ""},
		{"excluded", []Set{{r{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.1")}}}, []netip.Prefix{pfx("10.1.0.64/26"), pfx("10.1.0.7/32"), pfx("10.1.0.128/25"), pfx("fd00::/8"), pfx("10.9.0.0/16")}, "10.1.0.2-10.1.0.6,10.1.0.8-10.1.0.63", ""},
		{"excluded host bits", []Set{{r{Subnet: pfx("10.1.0.0/29"), Gateway: ip("10.1.0.1")}}}, []netip.Prefix{pfx("10.1.0.5/30")}, "10.1.0.2-10.1.0.3", ""},
		{"same subnet, disjoint", []Set{{r{pfx("10.1.0.0/24"), ip("10.1.0.2"), ip("10.1.0.9"), ip("10.1.0.1")}}, {r{pfx("10.1.0.0/24"), ip("10.1.0.10"), ip("10.1.0.19"), ip("10.1.0.1")}}}, nil, "10.1.0.2-10.1.0.9 10.1.0.10-10.1.0.19", ""},
		{"everything", []Set{{r{Subnet: pfx("::/0")}}}, nil, "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},

		{"nothing", nil, nil, "", `ranges="[]": want at least one range such as [[{"subnet": "10.1.0.0/24"}]]`},
		{"empty set", []Set{{}}, nil, "", `ranges[0]="[]": want at least one range such as [{"subnet": "10.1.0.0/24"}]`},
		{"zero", []Set{{{}}}, nil, "", `ranges[0][0].subnet="invalid Prefix": want an IP prefix such as 10.1.0.0/24 or fd00:1::/64`},
		{"host bits", []Set{{r{Subnet: pfx("10.1.0.1/24")}}}, nil, "", `ranges[0][0].subnet="10.1.0.1/24": want 10.1.0.0/24, which has no host bits set`},
		{"/31", []Set{{r{Subnet: pfx("10.1.0.0/31")}}}, nil, "", `ranges[0][0].subnet="10.1.0.0/31": want a prefix of at most /30, for the network and the gateway take an address each`},
		{"/127", []Set{{r{Subnet: pfx("fd00::/127")}}}, nil, "", `ranges[0][0].subnet="fd00::/127": want a prefix of at most /126, for the network and the gateway take an address each`},
		{"start outside", []Set{{r{Subnet: pfx("10.1.0.0/24"), Start: ip("10.2.0.1")}}}, nil, "", `ranges[0][0].rangeStart="10.2.0.1": want an address of 10.1.0.0/24`},
		{"end outside", []Set{{r{Subnet: pfx("10.1.0.0/24"), End: ip("fd00::1")}}}, nil, "", `ranges[0][0].rangeEnd="fd00::1": want an address of 10.1.0.0/24`},
		{"end before start", []Set{{r{Subnet: pfx("10.1.0.0/24"), Start: ip("10.1.0.9"), End: ip("10.1.0.8")}}}, nil, "", `ranges[0][0].rangeEnd="10.1.0.8": want an address not below rangeStart 10.1.0.9`},
		{"mapped", []Set{{r{Subnet: netip.PrefixFrom(ip("::ffff:10.1.0.0"), 120)}}}, nil, "", `ranges[0][0].subnet="::ffff:10.1.0.0/120": want an IP prefix such as 10.1.0.0/24 or fd00:1::/64`},
		{"gateway of another family", []Set{{r{Subnet: pfx("10.1.0.0/24"), Gateway: ip("fd00::1")}}}, nil, "", `ranges[0][0].gateway="fd00::1": want an address of 10.1.0.0/24`},
		{"families mixed", []Set{{r{Subnet: pfx("10.1.0.0/24")}, r{Subnet: pfx("fd00::/64")}}}, nil, "", `ranges[0][1].subnet="fd00::/64": want the family of 10.1.0.0/24, which is of the same set`},
		{"sets overlap", []Set{{r{Subnet: pfx("10.1.0.0/24")}}, {r{Subnet: pfx("10.1.0.128/25")}}}, nil, "", `ranges[1][0]: 10.1.0.129-10.1.0.254 overlaps 10.1.0.1-10.1.0.254 of ranges[0][0]; want each address in one range only`},
		{"ranges of a set overlap", []Set{{r{Subnet: pfx("fd00::/64")}, r{Subnet: pfx("fd00::/80")}}}, nil, "", `ranges[0][1]: fd00::1-fd00::ffff:ffff:ffff overlaps fd00::1-fd00::ffff:ffff:ffff:ffff of ranges[0][0]; want each address in one range only`},
		{"nothing left", []Set{{r{Subnet: pfx("10.1.0.0/24")}}}, []netip.Prefix{pfx("10.0.0.0/8")}, "", `ranges[0]: 10.1.0.1-10.1.0.254: nothing is left without the network, broadcast, gateway and excluded addresses; want at least one address`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := Config{Sets: tt.sets, Exclude: tt.exclude}
			spaces, err := c.spaces()
			if errText(err) != tt.wantErr || err != nil && !errors.Is(err, bowline.ErrInvalid) {
				t.Fatalf("error:\n got %v\nwant %s", err, tt.wantErr)
			}
			got := ""
			for i, s := range spaces {
				if i > 0 {
					got += " "
				}
				got += s.String()
			}
			if got != tt.want {
				t.Errorf("spaces are %s\nwant %s", got, tt.want)
			}
			if verr := c.Validate(); errText(verr) != tt.wantErr {
				t.Errorf("Validate: %v, want %s", verr, tt.wantErr)
			}
		})
	}
	if err := (Config{Sets: v4("10.1.0.0/24").Sets, Cooldown: -time.Second}).Validate(); err == nil {
		t.Error("a negative cool-down was accepted")
	}
}

func TestSpaceSizes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		subnet string
		want   uint64
	}{
		{"10.0.0.0/8", 1<<24 - 2}, {"0.0.0.0/0", 1<<32 - 2}, {"fd00::/126", 3}, {"fd00::/64", math.MaxUint64}, {"fd00::/65", 1<<63 - 1}, {"::/0", math.MaxUint64},
	}
	for _, tt := range tests {
		spaces, err := Config{Sets: []Set{{{Subnet: pfx(tt.subnet)}}}}.spaces()
		if err != nil {
			t.Fatal(err)
		}
		if got := spaces[0].size(); got != tt.want {
			t.Errorf("size of %s = %d, want %d", tt.subnet, got, tt.want)
		}
	}
}

// FuzzSpace: at and index are inverse, neighbours follow each other, and what
// is never handed out has no index.
func FuzzSpace(f *testing.F) {
	f.Add("10.1.0.0/24", "10.1.0.1", "10.1.0.64/26", "", "", uint64(70))
	f.Add("fd00::/64", "fd00::1", "fd00::ff00/120", "fd00::10", "fd00::ffff:ffff", uint64(1<<40))
	f.Add("::/0", "::1", "8000::/1", "", "", uint64(math.MaxUint64-1))
	f.Fuzz(func(t *testing.T, subnet, gateway, exclude, start, end string, i uint64) {
		c := Config{}
		p, err := netip.ParsePrefix(subnet)
		if err != nil {
			return
		}
		r := Range{Subnet: p}
		r.Gateway, _ = netip.ParseAddr(gateway)
		r.Start, _ = netip.ParseAddr(start)
		r.End, _ = netip.ParseAddr(end)
		if p, err := netip.ParsePrefix(exclude); err == nil {
			c.Exclude = []netip.Prefix{p}
		}
		c.Sets = []Set{{r}}
		spaces, err := c.spaces()
		if err != nil {
			return
		}
		s := spaces[0]
		n := s.size()
		if n == 0 {
			t.Fatal("an empty space was accepted")
		}
		i %= n
		a := s.at(i)
		if got, ok := s.index(a); !ok || got != i {
			t.Fatalf("index(at(%d)) = %d, %v", i, got, ok)
		}
		if !p.Contains(a) || a == p.Addr() || a == r.Gateway || len(c.Exclude) > 0 && c.Exclude[0].Contains(a) || a.Is4() && a == lastOf(p) {
			t.Fatalf("%s would be handed out of %s", a, s)
		}
		if i+1 < n {
			if b := s.at(i + 1); !a.Less(b) {
				t.Fatalf("at(%d) = %s, at(%d) = %s", i, a, i+1, b)
			}
		}
	})
}
