package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree returns a host whose files are those given.
func tree(t *testing.T, files map[string]string) host {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return host{root}
}

// levels returns the findings in short.
func levels(all []Finding, root string) []string {
	var found []string
	for _, f := range all {
		found = append(found, strings.ReplaceAll(string(f.Level)+": "+f.Text+" | "+f.Fix, root, ""))
	}
	return found
}

func TestForward(t *testing.T) {
	t.Parallel()
	d := &doctor{host: tree(t, map[string]string{"/proc/sys/net/ipv4/ip_forward": "0\n", "/proc/sys/net/ipv6/conf/all/forwarding": "1\n"})}
	d.forward("IPv4", "net.ipv4.ip_forward", true)
	d.forward("IPv4", "net.ipv4.ip_forward", false)
	d.forward("IPv6", "net.ipv6.conf.all.forwarding", true)
	d.forward("IPX", "net.ipx.forwarding", true)
	want := []string{
		"fail: IPv4 is not forwarded, so containers reach nothing but their own network | sysctl -w net.ipv4.ip_forward=1",
		"ok: IPv4 is not forwarded yet; the first container with a gateway turns it on | ",
		"ok: IPv6 is forwarded | ",
		"note: IPX: this kernel has none | ",
	}
	if diff := cmp.Diff(want, levels(d.all, "")); diff != "" {
		t.Error(diff)
	}
}

func TestAdvertised(t *testing.T) {
	t.Parallel()
	const zero = "00000000000000000000000000000000"
	routes := zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003 eth0.5\n" + // proto ra
		zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth1\n" + // static
		"20010db8000000000000000000000000 40 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00040001 eth2\n"
	d := &doctor{host: tree(t, map[string]string{
		"/proc/net/ipv6_route": routes, "/proc/sys/net/ipv6/conf/eth0.5/accept_ra": "1\n",
	})}
	if got, want := d.advertised(), []string{"eth0.5"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := d.sysctl("net.ipv6.conf.eth0.5.accept_ra"); got != "1" {
		t.Errorf("accept_ra is %q", got)
	}
}

func TestFirewallManagers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		files          map[string]string
		firewalld, ufw bool
	}{
		{"none", nil, false, false},
		{"firewalld", map[string]string{"/run/firewalld.pid": "12\n", "/proc/12/cmdline": "python3\x00/usr/sbin/firewalld\x00"}, true, false},
		{"its pid taken", map[string]string{"/run/firewalld.pid": "12\n", "/proc/12/cmdline": "bash\x00"}, false, false},
		{"ufw", map[string]string{"/etc/ufw/ufw.conf": "# ENABLED=no\nENABLED=yes\n"}, false, true},
		{"ufw off", map[string]string{"/etc/ufw/ufw.conf": "# ENABLED=yes\nENABLED=no\n"}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &doctor{host: tree(t, tt.files)}
			if f, u := d.firewalld(), d.ufw(); f != tt.firewalld || u != tt.ufw {
				t.Errorf("firewalld %v, ufw %v; want %v, %v", f, u, tt.firewalld, tt.ufw)
			}
		})
	}
}

func TestReferenceLeftovers(t *testing.T) {
	t.Parallel()
	h := tree(t, map[string]string{
		"/proc/stat":                            "cpu 1\nbtime 1000000000\n",
		resultsDir + "/web-a-eth0":              `{"kind":"cniCacheV1","containerId":"a","netns":"/proc/self/ns/net"}`,
		resultsDir + "/web-b-eth0":              `{"kind":"cniCacheV1","containerId":"b","netns":"/run/netns/nonesuch"}`,
		resultsDir + "/web-c-eth0":              `torn`,
		networksDir + "/web/10.1.0.2":           "a\r\neth0",
		networksDir + "/web/10.1.0.3":           "b\r\neth0",
		networksDir + "/web/10.1.0.4":           "",
		networksDir + "/web/fd00::2":            "a",
		networksDir + "/web/10.1.0.9":           "a\r\neth0", // of before the boot
		networksDir + "/web/last_reserved_ip.0": "10.1.0.9",
		networksDir + "/web/lock":               "",
		networksDir + "/good/10.2.0.2":          "a\r\neth0",
	})
	old := time.Unix(999999999, 0)
	if err := os.Chtimes(filepath.Join(h.root, networksDir, "web/10.1.0.9"), old, old); err != nil {
		t.Fatal(err)
	}
	d := &doctor{host: h}
	alive := d.cachedResults()
	d.leases(alive)
	w := networksDir + "/web/"
	want := []string{
		`warn: the result of container b is cached, but its namespace "/run/netns/nonesuch" is gone | rm ` + resultsDir + "/web-b-eth0",
		"warn: " + resultsDir + "/web-c-eth0 cannot be read as a cached result | rm " + resultsDir + "/web-c-eth0",
		`warn: 3 leases of network "web" in ` + networksDir + "/web are nobody's any more | rm " + w + "10.1.0.3 " + w + "10.1.0.4 " + w + "10.1.0.9",
	}
	if diff := cmp.Diff(want, levels(d.all, h.root)); diff != "" {
		t.Error(diff)
	}
	rules := `-P POSTROUTING ACCEPT
-N CNI-aaaa
-N CNI-bbbb
-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"web\" id: \"a\"" -j CNI-aaaa
-A POSTROUTING -s 10.1.0.3/32 -m comment --comment "name: \"web\" id: \"b\"" -j CNI-bbbb
-A CNI-bbbb -d 10.1.0.0/24 -m comment --comment "name: \"web\" id: \"b\"" -j ACCEPT
-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \"web\" id: \"b\"" -m multiport --dports 80 -j CNI-DN-cccc
`
	if got, want := orphans(rules, alive), []string{"CNI-bbbb", "CNI-DN-cccc"}; !slices.Equal(got, want) {
		t.Errorf("orphans: got %v, want %v", got, want)
	}
}
