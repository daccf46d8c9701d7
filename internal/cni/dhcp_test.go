package cni

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline/internal/dhcp"
)

// dhcpOf reads the section and CNI_ARGS as ADD does.
func dhcpOf(section, args string) (dhcp.Request, string, error) {
	c := Command{ContainerID: "abc", IfName: "eth0", Netns: "/run/netns/a", Args: args,
		Stdin: []byte(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"lan","type":"bowline-bridge","ipam":%s}`, section))}
	cfg, err := Parse(c)
	if err != nil {
		return dhcp.Request{}, "", err
	}
	return op{Command: c, Config: cfg}.dhcpRequest()
}

func TestDHCPRequest(t *testing.T) {
	t.Parallel()
	key := dhcp.Key{Network: "lan", ID: "abc/eth0", IfName: "eth0"}
	plain := dhcp.Request{Key: key, Sandbox: "/run/netns/a", Link: "eth0", IPv4: true, IPv6: "auto", Probe: true, Timeout: 20 * time.Second}
	with := func(f func(*dhcp.Request)) dhcp.Request { r := plain; f(&r); return r }
	const pod = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0"
	for _, tt := range []struct {
		name, section, args string
		want                dhcp.Request
		socket              string
	}{
		{"nothing said", `{"type":"bowline-dhcp"}`, "", plain, ""},
		{"of the reference", `{"type":"bowline-dhcp","daemonSocketPath":"/s","priority":5,"request":[{"skipDefault":true},{"option":"121"}],"provide":[{"option":"host-name","fromArg":"K8S_POD_NAME"},{"option":"dhcp-client-identifier","value":"x"},{"option":"60","value":"v"}]}`, pod,
			with(func(r *dhcp.Request) {
				r.Name, r.Hostname, r.Priority, r.Ask = "shop/db-0", "db-0", 5, []uint8{121}
				r.ClientID, r.Send = []byte("x"), []dhcp.Option{{Code: 60, Value: []byte("v")}}
			}), "/s"},
		{"of ours", `{"type":"bowline-dhcp","ipv4":false,"ipv6":"slaac","hostname":"Web_1.","clientID":"x","acd":false,"timeout":5,"suppress":["gateway"]}`, "",
			with(func(r *dhcp.Request) {
				r.IPv4, r.IPv6, r.Hostname, r.ClientID, r.Probe, r.Timeout, r.NoGateway = false, "slaac", "Web-1", []byte("\x00x"), false, 5*time.Second, true
			}), ""},
		{"nerdctl", `{"type":"bowline-dhcp"}`, "NERDCTL_CNI_DHCP_HOSTNAME=hh", with(func(r *dhcp.Request) { r.Hostname = "hh" }), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, socket, err := dhcpOf(tt.section, tt.args)
			if d := cmp.Diff(tt.want, got); err != nil || d != "" || socket != tt.socket {
				t.Errorf("%v, socket %q, want -, got +:\n%s", err, socket, d)
			}
		})
	}
}

func FuzzDHCPRequest(f *testing.F) {
	f.Add(`{"type":"bowline-dhcp","provide":[{"option":"12","fromArg":"A"}]}`, "A=b")
	f.Add(`{"ipv6":"dhcp","timeout":3,"request":[{"option":"routers"}],"_note":1}`, "K8S_POD_NAME=x")
	f.Fuzz(func(t *testing.T, section, args string) {
		if !json.Valid([]byte(section)) {
			return
		}
		r, _, err := dhcpOf(section, args)
		if err != nil {
			return
		}
		if r.Timeout < time.Second || r.Timeout > 300*time.Second || r.Priority < 0 || len(r.Hostname) > 63 || !r.IPv4 && r.IPv6 == dhcp.IPv6Off {
			t.Errorf("%s with %q was read as %+v", section, args, r)
		}
		for _, o := range r.Send {
			if o.Code == 0 || o.Code == 255 || len(o.Value) > maxOption {
				t.Errorf("%s with %q sends %+v", section, args, o)
			}
		}
	})
}
