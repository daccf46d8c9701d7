package tune_test

import (
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/tune"
)

// parse reads options as a plugin does.
func parse(values map[string]string) (tune.Options, error) {
	var o tune.Options
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.Flags(fs)
	for k, v := range values {
		if err := fs.Set(k, v); err != nil {
			return o, err
		}
	}
	return o, nil
}

func TestSysctls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value string
		want  map[string]string // nil: wrong
	}{
		{`{}`, map[string]string{}},
		{`{"net.core.somaxconn": "500", "net/ipv4/conf/IFNAME/arp_filter": "1"}`, map[string]string{"net.core.somaxconn": "500", "net/ipv4/conf/IFNAME/arp_filter": "1"}},
		{`{"net.ipv4.tcp_rmem": "1 2 3"}`, map[string]string{"net.ipv4.tcp_rmem": "1 2 3"}},
		{`{"net.core.somaxconn": "1", "net.core.somaxconn": "2"}`, nil},
		{`{"net.core.somaxconn": "1", "net/core/somaxconn": "2"}`, nil},
		{`{"kernel.hostname": "x"}`, nil},
		{`{"net/../kernel/hostname": "x"}`, nil},
		{`{"net/ipv4/../../kernel/hostname": "x"}`, nil},
		{`{"../net/core/somaxconn": "x"}`, nil},
		{`{"/net/core/somaxconn": "x"}`, nil},
		{`{"net": "x"}`, nil},
		{`{"net.core.somaxconn": 500}`, nil},
		{`["net.core.somaxconn"]`, nil},
		{`{"net.core.somaxconn": "500"`, nil},
		{`{} {}`, nil},
		{``, nil},
	}
	for _, tt := range tests {
		o, err := parse(map[string]string{"sysctl": tt.value})
		if (err == nil) != (tt.want != nil) || err == nil && !maps.Equal(o.Sysctls, tt.want) {
			t.Errorf("sysctl=%s: %v, %v; want %v", tt.value, o.Sysctls, err, tt.want)
		}
	}
}

func TestWith(t *testing.T) {
	t.Parallel()
	network, err := parse(map[string]string{"sysctl": `{"net.a.x": "1", "net.b": "2"}`, "promisc": "true", "txQLen": "10"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := parse(map[string]string{"sysctl": `{"net/a/x": "3"}`, "promisc": "false", "allmulti": "true"})
	if err != nil {
		t.Fatal(err)
	}
	both := network.With(own)
	if !maps.Equal(both.Sysctls, map[string]string{"net/a/x": "3", "net.b": "2"}) || network.Sysctls["net.a.x"] != "1" {
		t.Errorf("settings are %v, those of the network %v", both.Sysctls, network.Sysctls)
	}
	if l := both.Link(); *l.Promisc || !*l.AllMulti || *l.TxQLen != 10 {
		t.Errorf("link is %+v", l)
	}
	for _, wrong := range []map[string]string{{"promisc": "2"}, {"allmulti": ""}, {"txQLen": "-1"}, {"txQLen": "2147483648"}} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	none := ""
	tests := []struct {
		name    string
		list    *string
		sysctls string
		wantErr string
	}{
		{"no file", nil, `{"net.core.somaxconn": "1"}`, ""},
		{"empty file", &none, `{"net.core.somaxconn": "1"}`, "key net.core.somaxconn: LIST does not allow it"},
		{"empty file, nothing asked", &none, `{}`, ""},
		{"listed", new("^net.core.somaxconn$\n"), `{"net.core.somaxconn": "1"}`, ""},
		{"found anywhere", new("\n  somax  \n"), `{"net.core.somaxconn": "1"}`, ""},
		{"one of two is not", new("^net\\.core\\.\n^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$"), `{"net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.tcp_ecn": "1"}`, "key net.ipv4.tcp_ecn: LIST does not allow it"},
		{"as it is written", new("^net\\.core\\."), `{"net/core/somaxconn": "1"}`, "key net/core/somaxconn: LIST does not allow it"},
		{"no expression", new("net(\n"), `{"net.core.somaxconn": "1"}`, `LIST: line "net(": want a regular expression`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "allowlist.conf")
			if tt.list != nil {
				if err := os.WriteFile(file, []byte(*tt.list), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o, err := parse(map[string]string{"sysctl": tt.sysctls})
			if err != nil {
				t.Fatal(err)
			}
			err = o.Allowed(file)
			want := strings.ReplaceAll(tt.wantErr, "LIST", file)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (!errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), want)) {
				t.Errorf("Allowed: %v, want %q", err, want)
			}
		})
	}
}
