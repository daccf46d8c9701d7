package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A wire is the least driver there can be: a veth for each endpoint. Pools that
// have no gateway get their first host.
type wire struct{ host *link.Handle }

func (w wire) name(n bowline.NetworkConfig, e bowline.EndpointSpec) string {
	return bowline.LinkName("tst", n.ID, e.ID)
}

func (w wire) CreateNetwork(context.Context, bowline.NetworkConfig) error { return nil }
func (w wire) DeleteNetwork(context.Context, bowline.NetworkConfig) error { return nil }

func (w wire) CreateEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	v := link.Veth{Name: w.name(n, e), Peer: e.IfName, PeerNS: e.Sandbox, PeerMAC: bowline.MAC(n.ID, e.ID)}
	if err := w.host.CreateVeth(ctx, v); err != nil {
		if same, serr := w.host.IsVeth(ctx, v); serr != nil || !same {
			return bowline.Attachment{}, err
		}
	}
	pools := slices.Clone(n.Pools)
	for i := range pools {
		if !pools[i].Gateway.IsValid() {
			pools[i].Gateway = pools[i].Prefix.Addr().Next()
		}
	}
	return bowline.Attachment{Link: e.IfName, MAC: v.PeerMAC, MTU: 1500, Addrs: e.Addrs, Pools: pools}, nil
}

func (w wire) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return w.host.Delete(ctx, w.name(n, e))
}

func (w wire) CheckEndpoint(context.Context, bowline.NetworkConfig, bowline.EndpointSpec) error {
	return nil
}

// A bench is a host and a sandbox with directories of their own.
type bench struct {
	t       *testing.T
	host    *link.Handle
	sandbox *netns.Handle
	plugins string // where delegated plugins are
	driver  bowline.Driver
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ns, sandbox := netnstest.New(t), netnstest.New(t)
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &bench{t, h, sandbox, t.TempDir(), wire{h}}
}

// do runs one verb for container "c" and returns what it prints.
func (b *bench) do(verb, stdin string) (string, error) {
	b.t.Helper()
	var out bytes.Buffer
	c := Command{
		Verb: verb, ContainerID: "c", IfName: "eth0", Path: b.plugins, Stdin: []byte(stdin),
		Netns: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.sandbox.Fd()),
	}
	_, err := run(b.t.Context(), c, &out, func() (Face, error) { return Face{Name: "wire", Driver: b.driver}, nil })
	return out.String(), err
}

func (b *bench) must(verb, stdin string) string {
	b.t.Helper()
	out, err := b.do(verb, stdin)
	if err != nil {
		b.t.Fatalf("%s: %v", verb, err)
	}
	return out
}

// plugin installs an IPAM plugin of the test's own.
func (b *bench) plugin(name, script string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.plugins, name), []byte("#!/bin/sh\nset -e\n"+script), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// nothing wants a host without links and records.
func (b *bench) nothing() {
	b.t.Helper()
	names, err := b.host.Names(b.t.Context())
	if err != nil || len(names) > 0 {
		b.t.Errorf("links left: %v, %v", names, err)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("BOWLINE_RUN_DIR"), "endpoints", "wire-*", "*"))
	if err != nil || len(left) > 0 {
		b.t.Errorf("records left: %v, %v", left, err)
	}
}

const own = `"ipam":{"type":"bowline-ipam","ranges":[[{"subnet":"10.1.0.0/30"}],[{"subnet":"fd00:1::/64"}]]}}`

// A plugin such as dhcp asks the network through the container's link. What the
// driver makes of a pool without a gateway is in the result.
func TestDelegateFindsTheLink(t *testing.T) {
	b := newBench(t)
	b.plugin("ask", `
[ $CNI_COMMAND = ADD ] || exit 0
nsenter --net=$CNI_NETNS ip link show dev $CNI_IFNAME >&2
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/24"}],"routes":[{"dst":"10.9.0.0/16"}]}'`)
	conf := `{"cniVersion":"1.1.0","name":"n","ipam":{"type":"ask"}}`
	var r struct {
		IPs    []struct{ Gateway netip.Addr }
		Routes []struct{ GW netip.Addr }
	}
	out := b.must("ADD", conf)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddr("10.1.0.1")
	if len(r.IPs) != 1 || r.IPs[0].Gateway != want || len(r.Routes) != 1 || r.Routes[0].GW != want {
		t.Errorf("gateway and route are to go through %s: %s", want, out)
	}
	b.must("CHECK", strings.Replace(conf, "{", `{"prevResult":`+out+",", 1))
	b.must("DEL", conf)
	b.nothing()
}

func TestDelegateThatFails(t *testing.T) {
	b := newBench(t)
	b.plugin("refuse", `[ $CNI_COMMAND != ADD ] || { echo '{"code":11,"msg":"none left"}'; exit 1; }`)
	for _, kind := range []string{"refuse", "absent"} {
		_, err := b.do("ADD", `{"cniVersion":"1.1.0","name":"n","ipam":{"type":"`+kind+`"}}`)
		if err == nil || !strings.Contains(err.Error(), kind) {
			t.Errorf("ADD: %v; want an error that names %s", err, kind)
		}
		b.nothing()
	}
}

// An attachment whose result the caller cannot read is none.
func TestResultWithoutVersion(t *testing.T) {
	b := newBench(t)
	if out, err := b.do("ADD", `{"cniVersion":"0.2.0","name":"n"}`); err == nil {
		t.Errorf("there is no result without addresses in 0.2.0, but: %s", out)
	}
	b.nothing()
}

// The kernel gives a new namespace the inode of one that ended.
func TestSameInodeAgain(t *testing.T) {
	b := newBench(t)
	conf := `{"cniVersion":"1.1.0","name":"n",` + own
	b.must("ADD", conf)
	if _, err := b.do("ADD", conf); err == nil || !strings.Contains(err.Error(), "attached already") {
		t.Errorf("second ADD: %v", err)
	}
	names, err := b.host.Names(t.Context())
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := b.host.Delete(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	b.must("ADD", conf)
	b.must("DEL", conf)
	b.nothing()
}

// A pool is exhausted if one of its families is.
func TestStatusOfEachFamily(t *testing.T) {
	b := newBench(t)
	conf := `{"cniVersion":"1.1.0","name":"n",` + own
	b.must("STATUS", conf)
	b.must("ADD", conf) // the only IPv4 address
	_, err := b.do("STATUS", conf)
	if err == nil || toError(err).Code != CodeUnavailable {
		t.Errorf("STATUS with all IPv4 addresses taken: %v, want code %d", err, CodeUnavailable)
	}
}

// Damage is logged and costs a DEL nothing; CHECK says its code.
func TestDamagedRecords(t *testing.T) {
	conf := `{"cniVersion":"1.1.0","name":"n",` + own
	for _, kind := range []string{"endpoints", "ipam"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			out := b.must("ADD", conf)
			damaged := 0
			err := filepath.WalkDir(filepath.Join(os.Getenv("BOWLINE_RUN_DIR"), kind), func(path string, d os.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				data, err := os.ReadFile(path)
				if err == nil && bytes.HasPrefix(data, []byte("bowline-record")) {
					damaged++
					err = os.WriteFile(path, data[:len(data)-9], 0o600)
				}
				return err
			})
			if err != nil || damaged != 1 {
				t.Fatalf("damaged %d records, %v; want 1", damaged, err)
			}
			if kind == "endpoints" {
				_, err := b.do("CHECK", strings.Replace(conf, "{", `{"prevResult":`+out+",", 1))
				if err == nil || toError(err).Code != CodeDamaged {
					t.Errorf("CHECK: %v, want code %d", err, CodeDamaged)
				}
			}
			b.must("DEL", conf)
			b.must("ADD", conf) // the only address is free
			b.must("DEL", conf)
			b.nothing()
		})
	}
}

// A configuration that was written anew has an empty dns: IPAM's stays.
func TestEmptyDNS(t *testing.T) {
	b := newBench(t)
	b.plugin("names", `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/24"}],"dns":{"nameservers":["10.1.0.53"]}}'`)
	for dns, want := range map[string]string{`{}`: "10.1.0.53", `{"nameservers":["10.1.0.54"]}`: "10.1.0.54"} {
		conf := `{"cniVersion":"1.1.0","name":"n","dns":` + dns + `,"ipam":{"type":"names"}}`
		if out := b.must("ADD", conf); !strings.Contains(out, want) {
			t.Errorf("dns %s: want name server %s: %s", dns, want, out)
		}
		b.must("DEL", conf)
	}
}
