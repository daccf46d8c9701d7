package cnm

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/socket"
)

// newIPAM is the face as a process would have it, with the records that there
// are. dockerd has not introduced itself to it yet.
func newIPAM(t *testing.T) *plugin {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p := &plugin{t: t, mux: socket.NewMux(log)}
	new(IPAMDriver).register(p.mux, log)
	return p
}

// expect makes a call and compares its answer: JSON, or the text of an error.
func (p *plugin) expect(method, body, want string) {
	p.t.Helper()
	status, got := p.call(method, body)
	if status != 200 {
		got = errOf(p.t, got)
	}
	if got != want {
		p.t.Errorf("%s %s:\n got %s\nwant %s", method, body, got, want)
	}
}

// Requests as dockerd 29 sends them.
func requestPool(pool, sub string) string {
	return fmt.Sprintf(`{"AddressSpace":"local","Pool":%q,"SubPool":%q,"Options":{},"V6":%t}`, pool, sub, strings.Contains(pool, ":"))
}

func requestGateway(pool, addr string) string {
	return fmt.Sprintf(`{"PoolID":%q,"Address":%q,"Options":{"RequestAddressType":"com.docker.network.gateway"}}`, pool, addr)
}

func requestAux(pool, addr string) string {
	return fmt.Sprintf(`{"PoolID":%q,"Address":%q,"Options":null}`, pool, addr)
}

func requestFor(pool, addr, name string) string {
	return fmt.Sprintf(`{"PoolID":%q,"Address":%q,"Options":{"com.docker.network.endpoint.name":%q}}`, pool, addr, name)
}

func release(pool, addr string) string {
	return fmt.Sprintf(`{"PoolID":%q,"Address":%q}`, pool, addr)
}

func TestIPAM(t *testing.T) {
	stateDirs(t)
	p := newIPAM(t)
	p.expect("Plugin.Activate", "", `{"Implements":["IpamDriver"]}`)
	p.expect("IpamDriver.GetCapabilities", "", `{"RequiresMACAddress":false,"RequiresRequestReplay":true}`)
	p.expect("IpamDriver.GetDefaultAddressSpaces", "", `{"LocalDefaultAddressSpace":"local","GlobalDefaultAddressSpace":"global"}`)
	const id, sub = "local/10.44.0.0/24", "local/10.45.0.0/24/10.45.0.128/25"
	const overlap = "pool 10.44.0.0/24 overlaps 10.44.0.0/24, which a network has already; want a prefix of its own"

	p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), `{"PoolID":"local/10.44.0.0/24","Pool":"10.44.0.0/24","Data":{}}`)
	p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), "pool 10.44.0.0/24: a network has it already; want a prefix of its own")
	p.expect("IpamDriver.RequestAddress", requestGateway(id, ""), `{"Address":"10.44.0.1/24","Data":{}}`)
	p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), overlap)
	p.expect("IpamDriver.RequestAddress", requestAux(id, "10.44.0.5"), `{"Address":"10.44.0.5/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor(id, "", "c1"), `{"Address":"10.44.0.2/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c2"), `{"Address":"10.44.0.9/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c3"), "requested address 10.44.0.9 of 10.44.0.0/24 is taken: it is an address that was asked for by value")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.2", "c3"), "requested address 10.44.0.2 of 10.44.0.0/24 is taken by a container")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.1", "c3"), "requested address 10.44.0.1 of 10.44.0.0/24 is taken: it is the gateway")
	for range 2 {
		p.expect("IpamDriver.ReleaseAddress", release(id, "10.44.0.9"), "{}")
	}
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c3"), `{"Address":"10.44.0.9/24","Data":{}}`)

	p.expect("IpamDriver.RequestPool", requestPool("10.45.0.0/24", "10.45.0.128/25"), `{"PoolID":"`+sub+`","Pool":"10.45.0.0/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestGateway(sub, "10.45.0.1"), `{"Address":"10.45.0.1/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor(sub, "", "c1"), `{"Address":"10.45.0.128/24","Data":{}}`)
	p.expect("IpamDriver.RequestPool", requestPool("fd46::/64", ""), `{"PoolID":"local/fd46::/64","Pool":"fd46::/64","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestGateway("local/fd46::/64", ""), `{"Address":"fd46::1/64","Data":{}}`)

	p.expect("IpamDriver.ReleasePool", `{"PoolID":"`+id+`"}`, "{}")
	p.expect("IpamDriver.ReleasePool", `{"PoolID":"`+id+`"}`, "{}")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "", "c1"), `pool "`+id+`": there is no such pool`)
	p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), `{"PoolID":"local/10.44.0.0/24","Pool":"10.44.0.0/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c1"), `{"Address":"10.44.0.9/24","Data":{}}`)
}

func TestWrongIPAM(t *testing.T) {
	stateDirs(t)
	p := newIPAM(t)
	p.expect("IpamDriver.RequestPool", `{"AddressSpace":"local","Pool":"10.1.0.0/24","Options":{"k":"v"}}`, `ipam option k="v": want no option, there are none`)
	p.expect("IpamDriver.RequestPool", `{"AddressSpace":"local","Pool":"10.1.0.0/24","Options":{"com.docker.network.ipam.serial":"true"}}`, `{"PoolID":"local/10.1.0.0/24","Pool":"10.1.0.0/24","Data":{}}`)
	p.expect("IpamDriver.RequestAddress", requestFor("local/10.1.0.0/24", "x", "c1"), `address "x": want an IP address`)
	p.expect("IpamDriver.ReleaseAddress", release("local/10.1.0.0/24", ""), `address "": want an IP address`)
}

// TestIPAMReplay starts dockerd again: it asks for what it has once more, and
// gets it; what it does not have it does not get.
func TestIPAMReplay(t *testing.T) {
	const id = "local/10.44.0.0/24"
	for _, tt := range []struct {
		name    string
		restart bool // the plugin too
	}{{"dockerd restarts", false}, {"both restart", true}} {
		t.Run(tt.name, func(t *testing.T) {
			stateDirs(t)
			p := newIPAM(t)
			p.must("Plugin.Activate", "")
			p.must("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""))
			p.must("IpamDriver.RequestAddress", requestGateway(id, ""))
			p.must("IpamDriver.RequestAddress", requestAux(id, "10.44.0.5"))
			p.must("IpamDriver.RequestAddress", requestFor(id, "", "c1"))
			if tt.restart {
				p = newIPAM(t)
			}
			p.must("Plugin.Activate", "")
			p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), `{"PoolID":"local/10.44.0.0/24","Pool":"10.44.0.0/24","Data":{}}`)
			p.expect("IpamDriver.RequestAddress", requestGateway(id, "10.44.0.1"), `{"Address":"10.44.0.1/24","Data":{}}`)
			p.expect("IpamDriver.RequestAddress", requestAux(id, "10.44.0.5"), `{"Address":"10.44.0.5/24","Data":{}}`)
			p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.2", "c1"), `{"Address":"10.44.0.2/24","Data":{}}`)

			p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), "pool 10.44.0.0/24 overlaps 10.44.0.0/24, which a network has already; want a prefix of its own")
			p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/25", ""), "pool 10.44.0.0/25 overlaps 10.44.0.0/24, which a network has already; want a prefix of its own")
			p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.2", "c2"), "requested address 10.44.0.2 of 10.44.0.0/24 is taken by a container")
			p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.5", "c2"), "requested address 10.44.0.5 of 10.44.0.0/24 is taken: it is an address that was asked for by value")
			p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.1", "c2"), "requested address 10.44.0.1 of 10.44.0.0/24 is taken: it is the gateway")
		})
	}
}

// TestIPAMPluginRestart restarts the plugin alone: dockerd says nothing, and
// nothing may be taken twice.
func TestIPAMPluginRestart(t *testing.T) {
	const id = "local/10.44.0.0/24"
	stateDirs(t)
	p := newIPAM(t)
	p.must("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""))
	p.must("IpamDriver.RequestAddress", requestGateway(id, ""))
	p.must("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c1"))
	p = newIPAM(t)
	p.expect("IpamDriver.RequestPool", requestPool("10.44.0.0/24", ""), "pool 10.44.0.0/24 overlaps 10.44.0.0/24, which a network has already; want a prefix of its own")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c2"), "requested address 10.44.0.9 of 10.44.0.0/24 is taken: it is an address that was asked for by value")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "", "c2"), `{"Address":"10.44.0.2/24","Data":{}}`)
	p.expect("IpamDriver.ReleaseAddress", release(id, "10.44.0.9"), "{}")
	p.expect("IpamDriver.RequestAddress", requestFor(id, "10.44.0.9", "c2"), `{"Address":"10.44.0.9/24","Data":{}}`)
}

// TestSubPoolsStayApart asks in one subpool for an address of another.
func TestSubPoolsStayApart(t *testing.T) {
	stateDirs(t)
	p := newIPAM(t)
	p.must("Plugin.Activate", "")
	p.must("IpamDriver.RequestPool", requestPool("10.44.0.0/24", "10.44.0.0/26"))
	p.must("IpamDriver.RequestPool", requestPool("10.44.0.0/24", "10.44.0.64/26"))
	p.must("IpamDriver.RequestAddress", requestFor("local/10.44.0.0/24/10.44.0.0/26", "10.44.0.5", "c1"))
	p.expect("IpamDriver.RequestAddress", requestFor("local/10.44.0.0/24/10.44.0.64/26", "10.44.0.5", "c2"),
		"requested address 10.44.0.5 of 10.44.0.0/24 is taken: it is an address that was asked for by value")
}
