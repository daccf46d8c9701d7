package cnm

import (
	"strings"
	"testing"
)

// FuzzBodies sends each method what no dockerd would send: it may refuse, it
// must not panic.
func FuzzBodies(f *testing.F) {
	f.Add(network("n", `"mtu":"1400"`))
	f.Add(endpoint("n", "e"))
	f.Add(requestPool("10.1.0.0/24", "10.1.0.128/25"))
	f.Add(requestGateway("local/10.1.0.0/24", "10.1.0.1"))
	f.Add(`{"NetworkID":"n","EndpointID":"e","Options":{"com.docker.network.portmap":[{}],"com.docker.network.generic":null}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
		t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
		p := newIPAM(t)
		p.d = newPlugin(t, newRecorder()).d
		p.d.register(p.mux, p.d.log)
		for _, m := range []string{
			"NetworkDriver.GwAllocCheck", "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join",
			"NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.EndpointOperInfo", "NetworkDriver.Leave",
			"NetworkDriver.DeleteEndpoint", "NetworkDriver.DeleteNetwork",
			"IpamDriver.RequestPool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress", "IpamDriver.ReleasePool",
		} {
			if _, got := p.call(m, body); strings.Contains(got, "internal error") {
				t.Errorf("%s %s: %s", m, body, got)
			}
		}
	})
}
