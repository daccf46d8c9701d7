package cnm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/state"
)

// network is the CreateNetwork of a network with one pool and these -o options.
func network(id, generic string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"Options":{"com.docker.network.generic":{%s}},"IPv4Data":[{"Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}]}`, id, generic)
}

// endpoint is the CreateEndpoint of an endpoint with an address of that pool.
func endpoint(network, id string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Interface":{"Address":"10.1.0.2/24"},"Options":{}}`, network, id)
}

func on(network, endpoint string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q}`, network, endpoint)
}

func errOf(t *testing.T, answer string) string {
	t.Helper()
	var e struct{ Err string }
	if err := json.Unmarshal([]byte(answer), &e); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return e.Err
}

func TestCreateNetworkOptions(t *testing.T) {
	const head = "CreateNetwork n (10.1.0.0/24 via 10.1.0.1)"
	tests := []struct {
		name, body, want, wantErr string
	}{
		{"defaults", network("n", ``), head + " gatewayMode4=nat ipMasq=true isDefaultGateway=true isGateway=true", ""},
		{"no options at all", `{"NetworkID":"n","IPv4Data":[{"Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}]}`, head + " gatewayMode4=nat ipMasq=true isDefaultGateway=true isGateway=true", ""},
		{"null options", strings.Replace(network("n", ``), "{}", "null", 1), head + " gatewayMode4=nat ipMasq=true isDefaultGateway=true isGateway=true", ""},
		{"docker's keys", network("n", `"com.docker.network.driver.mtu":"1400","com.docker.network.bridge.name":"br9","com.docker.network.bridge.enable_icc":"false","com.docker.network.bridge.enable_ip_masquerade":"false"`),
			head + " bridge=br9 gatewayMode4=nat icc=false ipMasq=false isDefaultGateway=true isGateway=true mtu=1400", ""},
		{"gateway modes", network("n", `"com.docker.network.bridge.gateway_mode_ipv4":"routed","com.docker.network.bridge.gateway_mode_ipv6":"nat-unprotected","com.docker.network.bridge.trusted_host_interfaces":"eth1:wg0"`),
			head + " gatewayMode4=routed gatewayMode6=nat-unprotected ipMasq=true isDefaultGateway=true isGateway=true trustedInterfaces=eth1:wg0", ""},
		{"number and boolean", network("n", `"mtu":1400,"icc":true`), head + " gatewayMode4=nat icc=true ipMasq=true isDefaultGateway=true isGateway=true mtu=1400", ""},
		{"the same twice", network("n", `"mtu":"1400","com.docker.network.driver.mtu":"1400"`), head + " gatewayMode4=nat ipMasq=true isDefaultGateway=true isGateway=true mtu=1400", ""},
		{"different twice", network("n", `"mtu":"1400","com.docker.network.driver.mtu":"1500"`), "", `options com.docker.network.driver.mtu="1500" and mtu="1400" mean the same key: want one of them`},
		{"no gateway", network("n", `"isGateway":"false"`), head + " ipMasq=false isDefaultGateway=false isGateway=false", ""},
		{"user wins", network("n", `"isGateway":"false","ipMasq":"true"`), head + " ipMasq=true isDefaultGateway=false isGateway=false", ""},
		{"no rules", network("n", `"firewall":"none"`), head + " firewall=none isDefaultGateway=true isGateway=true", ""},
		{"internal by -o", network("n", `"internal":"true"`), head + " internal=true isGateway=true", ""},
		{"typo", network("n", `"mut":"1400"`), "", "option mut: unknown"},
		{"object as value", network("n", `"mtu":{}`), "", "option mtu=map[]: want a string"},
		{"link prefix", network("n", `"com.docker.network.container_iface_prefix":"a/b"`), "", `option com.docker.network.container_iface_prefix="a/b": want 1 to 13 letters or digits`},
		{"no pool", `{"NetworkID":"n","IPv4Data":[{"Pool":"0.0.0.0/0","Gateway":"0.0.0.0/0"}]}`, "CreateNetwork n ()", ""},
		{"no ID", `{}`, "", `NetworkID="": want the network's ID`},
		{"bad pool", `{"NetworkID":"n","IPv4Data":[{"Pool":"x"}]}`, "", `pool "x": want an address and prefix length`},
		{"gateway elsewhere", `{"NetworkID":"n","IPv4Data":[{"Pool":"10.1.0.0/24","Gateway":"10.2.0.1/24"}]}`, "", `pool 10.1.0.0/24: gateway "10.2.0.1/24": want an address inside the pool`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stateDirs(t)
			r := newRecorder()
			status, got := newPlugin(t, r).call("NetworkDriver.CreateNetwork", tt.body)
			if gotErr := errOf(t, got); gotErr != tt.wantErr || (status == 200) != (tt.wantErr == "") {
				t.Fatalf("CreateNetwork: %d\n got %s\nwant %s", status, gotErr, tt.wantErr)
			}
			if calls := strings.Join(r.taken(), "; "); calls != tt.want {
				t.Errorf("driver got  %s\nwant        %s", calls, tt.want)
			}
			if ns, err := OpenNetworks("rec").All(t.Context()); err != nil || (len(ns) == 1) != (tt.wantErr == "") {
				t.Errorf("records are %v, %v", ns, err)
			}
		})
	}
}

func TestLinkPrefixReachesJoin(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", `"com.docker.network.container_iface_prefix":"net"`))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	if got := p.must("NetworkDriver.Join", on("n", "e")); !strings.Contains(got, `"DstPrefix":"net"`) {
		t.Errorf("Join: %s; want prefix net", got)
	}
}

func TestWithoutGatewayNoGatewayService(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", `"internal":"true"`))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	want := `{"InterfaceName":{"SrcName":"in-e","DstPrefix":"eth"},"Gateway":"","GatewayIPv6":"","StaticRoutes":null,"DisableGatewayService":true}`
	if got := p.must("NetworkDriver.Join", on("n", "e")); got != want {
		t.Errorf("Join:\n got %s\nwant %s", got, want)
	}
}

// TestMACFollowsAddress makes a container anew: its neighbours must find it.
func TestMACFollowsAddress(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateNetwork", network("m", ``))
	first := p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	p.must("NetworkDriver.DeleteEndpoint", on("n", "e"))
	if again := p.must("NetworkDriver.CreateEndpoint", endpoint("n", "f")); again != first {
		t.Errorf("same address, new endpoint: %s, want %s", again, first)
	}
	if other := p.must("NetworkDriver.CreateEndpoint", endpoint("m", "g")); other == first {
		t.Errorf("same address on another network: %s again", other)
	}
}

func TestGwAllocCheck(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	for generic, want := range map[string]string{
		`{}`:                    `{"SkipIPv4":false,"SkipIPv6":false}`,
		`{"isGateway":"false"}`: `{"SkipIPv4":true,"SkipIPv6":true}`,
		`{"com.docker.network.bridge.gateway_mode_ipv4":"isolated"}`: `{"SkipIPv4":true,"SkipIPv6":false}`,
		`{"gatewayMode6":"isolated","gatewayMode4":"nat"}`:           `{"SkipIPv4":false,"SkipIPv6":true}`,
	} {
		if got := p.must("NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.generic":`+generic+`}}`); got != want {
			t.Errorf("GwAllocCheck with %s = %s, want %s", generic, got, want)
		}
	}
}

func TestSameNetworkAgain(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	status, got := p.call("NetworkDriver.CreateNetwork", network("n", `"mtu":"1400"`))
	if want := "network n: there already with other pools or options"; status != 500 || errOf(t, got) != want {
		t.Errorf("other options: %d %s, want %s", status, got, want)
	}
}

// TestWatched: an endpoint of a network that is watched makes sure of it only if
// it is gone.
func TestWatched(t *testing.T) {
	stateDirs(t)
	r := newRecorder()
	p := newPlugin(t, r)
	watched := true
	p.d.Watched = func() bool { return watched }
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	for _, tt := range []struct {
		name    string
		watched bool
		err     error
		want    string
	}{
		{"watched", true, nil, "CreateEndpoint"},
		{"gone", true, bowline.ErrUnknown, "CreateEndpoint CreateNetwork CreateEndpoint DeleteEndpoint"},
		{"broken", true, bowline.ErrUnavailable, "CreateEndpoint DeleteEndpoint"},
		{"not watched", false, nil, "CreateNetwork CreateEndpoint"},
	} {
		r.taken()
		watched, r.fail["CreateEndpoint"] = tt.watched, tt.err
		if status, got := p.call("NetworkDriver.CreateEndpoint", endpoint("n", tt.name)); (status == 200) != (tt.err == nil) {
			t.Errorf("%s: %d %s", tt.name, status, got)
		}
		var methods []string
		for _, c := range r.taken() {
			method, _, _ := strings.Cut(c, " ")
			methods = append(methods, method)
		}
		if got := strings.Join(methods, " "); got != tt.want {
			t.Errorf("%s: driver got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestFailureLeavesNothing breaks the driver at each of its methods.
func TestFailureLeavesNothing(t *testing.T) {
	tests := []struct{ method, broken, body string }{
		{"CreateNetwork", "CreateNetwork", network("m", ``)},
		{"CreateEndpoint", "CreateNetwork", endpoint("n", "e")},
		{"CreateEndpoint", "CreateEndpoint", endpoint("n", "e")},
	}
	for _, tt := range tests {
		t.Run(tt.method+" with broken "+tt.broken, func(t *testing.T) {
			stateDirs(t)
			r := newRecorder()
			p := newPlugin(t, r)
			p.must("NetworkDriver.CreateNetwork", network("n", ``))
			r.setFail(tt.broken, errBroken)
			if status, got := p.call("NetworkDriver."+tt.method, tt.body); status != 500 || errOf(t, got) != errBroken.Error() {
				t.Errorf("%d %s, want %v", status, got, errBroken)
			}
			p.mustHold("n")
			r.setFail(tt.broken, nil)
			p.must("NetworkDriver."+tt.method, tt.body)
		})
	}
}

// mustHold fails the test unless the records are these networks and no endpoint.
func (p *plugin) mustHold(networks ...string) {
	p.t.Helper()
	ns, err := p.d.networks.All(p.t.Context())
	var got []string
	for _, n := range ns {
		got = append(got, n.ID)
	}
	if err != nil || !slices.Equal(got, networks) {
		p.t.Errorf("network records are %v, %v; want %v", got, err, networks)
	}
	if es, err := p.d.endpoints.All(p.t.Context()); err != nil || len(es) != 0 {
		p.t.Errorf("endpoint records are %v, %v; want none", es, err)
	}
}

func TestFailureAtEachStep(t *testing.T) {
	stateDirs(t)
	r := newRecorder()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	var req createEndpointRequest
	if err := json.Unmarshal([]byte(endpoint("n", "e")), &req); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		_, err := p.d.createEndpoint(netnstest.FailAfter(t.Context(), n), req)
		if err == nil {
			if n < 4 {
				t.Errorf("CreateEndpoint has %d steps that can fail, want at least 4", n)
			}
			return
		}
		p.mustHold("n")
		if len(r.links) != 0 {
			t.Fatalf("failed at step %d with %v left", n, r.links)
		}
	}
	t.Fatal("CreateEndpoint never succeeds")
}

func TestUnknownNetwork(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	const want = "network 4038964074ed: bowline-rec has no record of it: want one made with -d bowline-rec, and the records that were there then; remove the network and create it again"
	for _, call := range []string{"CreateEndpoint", "Join"} {
		status, got := p.call("NetworkDriver."+call, endpoint("4038964074edb939a7cc", "e"))
		if status != 500 || errOf(t, got) != want {
			t.Errorf("%s: %d\n got %s\nwant %s", call, status, errOf(t, got), want)
		}
	}
	for _, call := range []string{"Leave", "DeleteEndpoint", "DeleteNetwork", "EndpointOperInfo", "RevokeExternalConnectivity", "DiscoverNew"} {
		p.must("NetworkDriver."+call, on("n", "e"))
	}
}

func TestWrongEndpoint(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	tests := []struct{ call, body, want string }{
		{"CreateEndpoint", `{"NetworkID":"n"}`, `EndpointID="": want the endpoint's ID`},
		{"CreateEndpoint", `{"NetworkID":"n","EndpointID":"f","Interface":{"Address":"10.1.0.2"}}`, `endpoint f: address "10.1.0.2": want an address and prefix length`},
		{"CreateEndpoint", `{"NetworkID":"n","EndpointID":"f","Interface":{"MacAddress":"zz"}}`, `endpoint f: MacAddress="zz": want six octets`},
		{"CreateEndpoint", `{"NetworkID":"n","EndpointID":"f","Options":{"bad":"x"}}`, `endpoint option bad: unknown`},
		{"CreateEndpoint", `{"NetworkID":"n","EndpointID":"f","Options":{"k":["x"]}}`, `endpoint option k=["x"]: want a string`},
		{"Join", on("n", "f"), "network n: endpoint f does not exist"},
	}
	for _, tt := range tests {
		if status, got := p.call("NetworkDriver."+tt.call, tt.body); status != 500 || errOf(t, got) != tt.want {
			t.Errorf("%s %s: %d\n got %s\nwant %s", tt.call, tt.body, status, errOf(t, got), tt.want)
		}
	}
}

func TestNetworksDoNotWaitForEachOther(t *testing.T) {
	stateDirs(t)
	r := newRecorder()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("slow", ``))
	p.must("NetworkDriver.CreateNetwork", network("fast", ``))
	hang := make(chan struct{})
	r.block["CreateEndpoint e1"] = hang
	done := make(chan int, 2)
	go func() { s, _ := p.call("NetworkDriver.CreateEndpoint", endpoint("slow", "e1")); done <- s }()
	<-r.enter
	p.must("NetworkDriver.CreateEndpoint", endpoint("fast", "e2"))
	go func() { s, _ := p.call("NetworkDriver.CreateEndpoint", endpoint("slow", "e3")); done <- s }()
	select {
	case <-done:
		t.Error("a second call of the slow network did not wait")
	default:
	}
	close(hang)
	if a, b := <-done, <-done; a != 200 || b != 200 {
		t.Errorf("calls of the slow network: %d, %d", a, b)
	}
	p.d.locks.mu.Lock()
	defer p.d.locks.mu.Unlock()
	if n := len(p.d.locks.held); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

func TestRestoreAndSweep(t *testing.T) {
	stateDirs(t)
	r := newRecorder()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	for _, id := range []string{"alive", "gone", "waiting", "forgotten", "booted", "half"} {
		p.must("NetworkDriver.CreateEndpoint", endpoint("n", id))
		p.must("NetworkDriver.Join", on("n", id))
	}
	// The clock has jumped: what it says of the past is not what happened.
	p.change("waiting", func(e *state.Endpoint) { e.Sandbox, e.Created = "", time.Now().Add(-time.Hour) })
	p.change("forgotten", func(e *state.Endpoint) { e.Sandbox, e.Created = "", time.Now().Add(time.Hour) })
	p.change("booted", func(e *state.Endpoint) { e.BootID = "before" })
	p.change("half", func(e *state.Endpoint) { e.Ready = false })
	p.change("alive", func(e *state.Endpoint) { e.Sandbox = "/run/docker/netns/x" })
	delete(r.links, "host-gone")
	if err := p.d.networks.put(t.Context(), Network{Driver: "rec", ID: "halfmade"}); err != nil {
		t.Fatal(err)
	}
	r.taken()

	p = newPlugin(t, r) // as after kill -9
	p.d.unjoined["n/forgotten"] = time.Now().Add(-joinWithin - time.Second)
	p.d.restore(t.Context())
	got := r.taken()
	slices.Sort(got)
	want := []string{
		"CreateNetwork n (10.1.0.0/24 via 10.1.0.1) gatewayMode4=nat ipMasq=true isDefaultGateway=true isGateway=true",
		"DeleteEndpoint n booted", "DeleteEndpoint n forgotten", "DeleteEndpoint n gone", "DeleteEndpoint n half",
		"DeleteNetwork halfmade",
	}
	if !slices.Equal(got, want) {
		t.Errorf("restore asked the driver\n got %q\nwant %q", got, want)
	}
	p.must("NetworkDriver.Leave", on("n", "alive"))
	p.must("NetworkDriver.DeleteEndpoint", on("n", "alive"))
	p.must("NetworkDriver.DeleteNetwork", `{"NetworkID":"n"}`)
	p.mustHold()
	if len(r.links) != 0 {
		t.Errorf("links left: %v", r.links)
	}
}

// change rewrites the record of an endpoint of network n.
func (p *plugin) change(id string, f func(*state.Endpoint)) {
	p.t.Helper()
	e, err := p.d.endpoints.Get(p.t.Context(), "rec", "n", id)
	if err != nil {
		p.t.Fatal(err)
	}
	if e.Sandbox == "" { // the tests' sandboxes have no path; a real one has
		e.Sandbox = "/run/docker/netns/x"
	}
	f(&e)
	if err := p.d.endpoints.Put(p.t.Context(), e); err != nil {
		p.t.Fatal(err)
	}
}
