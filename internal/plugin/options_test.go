package plugin

import (
	"net"
	"testing"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		values  map[string]string
		wantErr string
	}{
		{"all right", map[string]string{"mtu": "1400", "nat": "true", "mode": "b", "link": "br0", "mac": "02:00:00:00:00:01"}, ""},
		{"typo", map[string]string{"mut": "1400"}, `network "web": option mut="1400": there is no such key; did you mean mtu?`},
		{"another case", map[string]string{"NAT": "1"}, `network "web": option NAT="1": there is no such key; did you mean nat?`},
		{"nothing near", map[string]string{"xyzzy": ""}, `network "web": option xyzzy="": want one of the keys link, mac, mode, mtu, nat`},
		{"out of range", map[string]string{"mtu": "67"}, `network "web": option mtu="67": want largest IP packet in BYTES, 68 to 65535`},
		{"not a number", map[string]string{"mtu": "jumbo"}, `network "web": option mtu="jumbo": want largest IP packet in BYTES, 68 to 65535`},
		{"not a bool", map[string]string{"nat": "maybe"}, `network "web": option nat="maybe": want BOOL: masquerade`},
		{"not one of them", map[string]string{"mode": "c"}, `network "web": option mode="c": want WORD a or b`},
		{"no name of a link", map[string]string{"link": "a/b"}, `network "web": option link="a/b": want NAME of a link`},
		{"multicast", map[string]string{"mac": "03:00:00:00:00:01"}, `network "web": option mac="03:00:00:00:00:01": want ADDRESS of the link`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mtu int
			var mode, link string
			var mac net.HardwareAddr
			fs := NewOptions()
			IntVar(fs, &mtu, "mtu", 68, 65535, "largest IP packet in `BYTES`, 68 to 65535")
			fs.Bool("nat", false, "`BOOL`: masquerade")
			EnumVar(fs, &mode, "mode", []string{"a", "b"}, "`WORD` a or b")
			LinkVar(fs, &link, "link", "`NAME` of a link")
			MACVar(fs, &mac, "mac", "`ADDRESS` of the link")
			err := ParseOptions(fs, `network "web"`, tt.values)
			if got := errText(err); got != tt.wantErr {
				t.Fatalf("ParseOptions:\n got %s\nwant %s", got, tt.wantErr)
			}
			if err == nil && (mtu != 1400 || mode != "b" || link != "br0" || mac.String() != "02:00:00:00:00:01") {
				t.Errorf("parsed to %d %s %s %s", mtu, mode, link, mac)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
