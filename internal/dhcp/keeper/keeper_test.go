package keeper

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/wire"
)

func TestPhases(t *testing.T) {
	t.Parallel()
	hour := times{since: 1000, t1: 30 * time.Minute, t2: 52 * time.Minute, end: time.Hour}
	for _, tt := range []struct {
		name  string
		t     times
		age   time.Duration
		want  phase
		until time.Duration
	}{
		{"new", hour, 0, bound, 30 * time.Minute},
		{"before T1", hour, 30*time.Minute - 1, bound, 30 * time.Minute},
		{"T1", hour, 30 * time.Minute, renewing, 52 * time.Minute},
		{"T2", hour, 52 * time.Minute, rebinding, time.Hour},
		{"end", hour, time.Hour, expired, time.Hour},
		{"long after", hour, 100 * time.Hour, expired, 100 * time.Hour},
		{"for ever", times{since: 1000}, 1000 * time.Hour, bound, 1024 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, until := tt.t.at(tt.t.since.add(tt.age))
			if got := until.sub(tt.t.since); p != tt.want || got != tt.until {
				t.Errorf("got phase %d until %s, want %d until %s", p, got, tt.want, tt.until)
			}
		})
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		end, left, want time.Duration
	}{
		{"half of what is left", 24 * time.Hour, 4 * time.Hour, 2 * time.Hour},
		{"an eighth of the lease at most", 24 * time.Hour, 9 * time.Hour, 3 * time.Hour},
		{"a minute at least", time.Hour, 90 * time.Second, time.Minute},
		{"a short lease", 2 * time.Minute, 100 * time.Second, 15 * time.Second},
		{"a short lease at its end", 2 * time.Minute, 8 * time.Second, 6 * time.Second},
		{"no longer than there is", time.Hour, 10 * time.Second, 10*time.Second + time.Millisecond},
		{"none left", time.Hour, -time.Second, time.Millisecond},
	} {
		if got := (times{end: tt.end}).pause(tt.left); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestLeaseOfRecord(t *testing.T) {
	t.Parallel()
	b := wire.Binding4{Addr: prefix("10.9.0.5/24"), Routers: []netip.Addr{addr("10.9.0.1"), addr("10.9.0.2")}, Nameservers: []netip.Addr{addr("10.9.0.53")}}
	far := bowline.Route{Dst: prefix("10.20.0.0/16"), Via: addr("10.9.0.7")}
	all4 := prefix("0.0.0.0/0")
	static, classless := b, b
	static.Routes = []bowline.Route{far}
	classless.Routes, classless.Classless = []bowline.Route{far, {Dst: all4, Via: addr("10.9.0.8")}}, true
	r6 := router{Router: wire.Router{Addr: addr("fe80::1"), Default: true, Nameservers: []netip.Addr{addr("2001:db8::53")},
		Prefixes: []wire.Prefix{{Net: prefix("2001:db8::/64"), OnLink: true}}}, Auto: []netip.Prefix{prefix("2001:db8::5/64")}}
	no := dhcp.Request{NoGateway: true}
	for _, tt := range []struct {
		name   string
		r      record
		addrs  []dhcp.Addr
		routes []bowline.Route
	}{
		{"router", record{Four: &bound4{Binding4: b}}, []dhcp.Addr{{Prefix: b.Addr, Gateway: addr("10.9.0.1")}}, []bowline.Route{{Dst: all4, Via: addr("10.9.0.1")}}},
		{"static routes", record{Four: &bound4{Binding4: static}}, []dhcp.Addr{{Prefix: b.Addr, Gateway: addr("10.9.0.1")}}, []bowline.Route{far, {Dst: all4, Via: addr("10.9.0.1")}}},
		{"classless routes stand for the router", record{Four: &bound4{Binding4: classless}}, []dhcp.Addr{{Prefix: b.Addr, Gateway: addr("10.9.0.1")}}, []bowline.Route{far, {Dst: all4, Via: addr("10.9.0.8")}}},
		{"no gateway", record{Request: no, Four: &bound4{Binding4: classless}}, []dhcp.Addr{{Prefix: b.Addr}}, []bowline.Route{far}},
		{"priority", record{Request: dhcp.Request{Priority: 7}, Four: &bound4{Binding4: b}}, []dhcp.Addr{{Prefix: b.Addr, Gateway: addr("10.9.0.1")}}, []bowline.Route{{Dst: all4, Via: addr("10.9.0.1"), Priority: 7}}},
		{"DHCPv6 has the router's prefix", record{Router: &router{Router: r6.Router}, Six: &bound6{Binding6: wire.Binding6{Addr: addr("2001:db8::7")}}},
			[]dhcp.Addr{{Prefix: prefix("2001:db8::7/64"), Gateway: addr("fe80::1")}}, nil},
		{"DHCPv6 without a router", record{Six: &bound6{Binding6: wire.Binding6{Addr: addr("2001:db8::7")}}}, []dhcp.Addr{{Prefix: prefix("2001:db8::7/128")}}, nil},
		{"SLAAC", record{Router: &r6}, []dhcp.Addr{{Prefix: prefix("2001:db8::5/64"), Gateway: addr("fe80::1")}}, nil},
		{"nothing any more", record{}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := tt.r.lease()
			if !reflect.DeepEqual(l.Addrs, tt.addrs) || !reflect.DeepEqual(l.Routes, tt.routes) {
				t.Errorf("got %v, %v\nwant %v, %v", l.Addrs, l.Routes, tt.addrs, tt.routes)
			}
		})
	}
}

func TestClientID(t *testing.T) {
	t.Parallel()
	r := dhcp.Request{Key: dhcp.Key{Network: "web", ID: "abc/eth0", IfName: "eth0"}}
	if got := string(clientID(r, r.ID)); got != "\x00web/abc/eth0" {
		t.Errorf("of an ID: %q", got)
	}
	if got := string(clientID(r, "shop/db-0")); got != "\x00web/shop/db-0/eth0" {
		t.Errorf("of a name: %q", got)
	}
	long, other := string(make([]byte, 300)), string(make([]byte, 301))
	if a, b := clientID(r, long), clientID(r, other); len(a) != 255 || string(a) == string(b) {
		t.Errorf("of long names: %d bytes, the same: %v", len(a), string(a) == string(b))
	}
}
