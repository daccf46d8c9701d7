package cnm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A publisher is a recorder that publishes too: it knows who has which port.
type publisher struct {
	*recorder
	has map[string][]bowline.PortMapping // by endpoint
}

func newPublisher() publisher { return publisher{newRecorder(), map[string][]bowline.PortMapping{}} }

func (p publisher) Publish(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) ([]bowline.PortMapping, error) {
	if err := p.note(ctx, "Publish", e.ID, "%s %s %v", n.ID, e.ID, e.Ports); err != nil {
		return nil, err
	}
	var chosen []bowline.PortMapping
	for _, m := range e.Ports {
		if m.HostPort == 0 || m.HostPortEnd != 0 {
			m.HostPort, m.HostPortEnd = max(m.HostPort, 32768), 0
		}
		for other, theirs := range p.has {
			for _, o := range theirs {
				if other != e.ID && o.HostPort == m.HostPort {
					return nil, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("port %d is taken by endpoint %s", m.HostPort, other))
				}
			}
		}
		chosen = append(chosen, m)
	}
	p.has[e.ID] = chosen
	return chosen, nil
}

func (p publisher) Unpublish(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	err := p.note(ctx, "Unpublish", e.ID, "%s %s", n.ID, e.ID)
	if err == nil {
		delete(p.has, e.ID)
	}
	return err
}

func (p publisher) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	err := p.recorder.DeleteEndpoint(ctx, n, e)
	if err == nil {
		delete(p.has, e.ID)
	}
	return err
}

// program is the ProgramExternalConnectivity of these port bindings.
func program(network, endpoint string, bindings ...string) string {
	return fmt.Sprintf(`{"NetworkID":%q,"EndpointID":%q,"Options":{"com.docker.network.portmap":[%s]}}`, network, endpoint, strings.Join(bindings, ","))
}

const (
	bind80  = `{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080}`
	bind53  = `{"Proto":17,"IP":"","Port":53,"HostIP":"127.0.0.1","HostPort":0,"HostPortEnd":0}`
	bind443 = `{"Proto":6,"IP":"","Port":443,"HostIP":"::1","HostPort":8443,"HostPortEnd":8450}`
)

func TestPortMappings(t *testing.T) {
	t.Parallel()
	row := func(proto, host, port int) string {
		return fmt.Sprintf(`{"Proto":%d,"Port":%d,"HostIP":"","HostPort":%d,"HostPortEnd":%d}`, proto, port, host, host)
	}
	tests := []struct {
		name, list, more, want, wantErr string
	}{
		{"one", bind80, "", "[8080->80/tcp]", ""},
		{"none", "", "", "[]", ""},
		{"chosen by us, with an address", bind53, "", "[127.0.0.1:0->53/udp]", ""},
		{"one of several", bind443, "", "[[::1]:8443-8450->443/tcp]", ""},
		{"sctp", `{"Proto":132,"Port":9,"HostIP":"0.0.0.0","HostPort":9}`, "", "[0.0.0.0:9->9/sctp]", ""},
		{"a row in any order", row(6, 8001, 81) + "," + row(6, 8002, 82) + "," + row(6, 8000, 80), "", "[8000-8002->80-82/tcp]", ""},
		{"rows apart", row(6, 8000, 80) + "," + row(6, 8001, 90) + "," + row(17, 8001, 81), "", "[8000->80/tcp 8001->90/tcp 8001->81/udp]", ""},
		{"twice the same", bind80 + "," + bind80, "", "[8080->80/tcp]", ""},
		{"no row of ports to be chosen", row(6, 0, 80) + "," + row(6, 0, 81), "", "[0->80/tcp 0->81/tcp]", ""},
		{"another endpoint has IPv6", bind80 + "," + bind53 + "," + bind443, `,"com.docker.network.driver.private.no_proxy_6to4":true`, "[0.0.0.0:8080->80/tcp 127.0.0.1:0->53/udp]", ""},
		{"no list", `{`, "", "", "com.docker.network.portmap=[{]: want a list of ports"},
		{"protocol", `{"Proto":1,"Port":80}`, "", "", "com.docker.network.portmap[0]: Proto=1: want 6 (tcp), 17 (udp) or 132 (sctp)"},
		{"no port", bind80 + `,{"Proto":6}`, "", "", "com.docker.network.portmap[1]: Port=0: want 1 to 65535"},
		{"address", `{"Proto":6,"Port":80,"HostIP":"fe80::1%eth0"}`, "", "", "com.docker.network.portmap[0]: HostIP=fe80::1%eth0: want an address such as 127.0.0.1 or ::1"},
	}
	for _, tt := range tests {
		labels := map[string]json.RawMessage{labelPortMap: json.RawMessage("[" + tt.list + "]")}
		if tt.more != "" {
			labels[labelOnlyIPv4] = json.RawMessage("true")
		}
		got, err := portMappings(labels)
		gotErr := ""
		if err != nil {
			gotErr = err.Error()
		}
		if gotErr != tt.wantErr || err == nil && fmt.Sprint(got) != tt.want {
			t.Errorf("%s:\n got %v, %s\nwant %s, %s", tt.name, got, gotErr, tt.want, tt.wantErr)
		}
	}
}

func (p *plugin) mustPublish(endpoint, want string) {
	p.t.Helper()
	e, err := p.d.endpoints.Get(p.t.Context(), "rec", "n", endpoint)
	if got := fmt.Sprint(e.Ports); err != nil || got != want {
		p.t.Errorf("record of %s has ports %s, %v; want %s", endpoint, got, err, want)
	}
}

// TestPublish goes through the life of an endpoint's ports.
func TestPublish(t *testing.T) {
	stateDirs(t)
	r := newPublisher()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "f"))
	r.taken()
	step := func(method, body, wantCalls, wantPorts string) {
		t.Helper()
		p.must("NetworkDriver."+method, body)
		if got := strings.Join(r.taken(), "; "); got != wantCalls {
			t.Errorf("%s %s asked the driver\n got %s\nwant %s", method, body, got, wantCalls)
		}
		if wantPorts != "" {
			p.mustPublish("e", wantPorts)
		}
	}
	step("ProgramExternalConnectivity", program("n", "e"), "", "[]")
	step("ProgramExternalConnectivity", program("n", "e", bind80, bind53), "Publish n e [8080->80/tcp 127.0.0.1:0->53/udp]", "[8080->80/tcp 127.0.0.1:32768->53/udp]")
	step("ProgramExternalConnectivity", program("n", "e", bind80), "Publish n e [8080->80/tcp]", "[8080->80/tcp]") // a replacement

	// Taken: refused by the holder's name, and what was there stays.
	status, got := p.call("NetworkDriver.ProgramExternalConnectivity", program("n", "f", bind80))
	if want := "port 8080 is taken by endpoint e"; status != 500 || errOf(t, got) != want {
		t.Errorf("taken port: %d %s, want %s", status, got, want)
	}
	p.mustPublish("f", "[]")
	r.taken()

	// Unless the holder is dead, and only nobody has told us.
	delete(r.links, "host-e")
	step("ProgramExternalConnectivity", program("n", "f", bind80), "Publish n f [8080->80/tcp]; DeleteEndpoint n e; Publish n f [8080->80/tcp]", "")
	p.mustPublish("f", "[8080->80/tcp]")
	p.must("NetworkDriver.RevokeExternalConnectivity", on("n", "f"))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	p.must("NetworkDriver.ProgramExternalConnectivity", program("n", "e", bind80))
	r.taken()

	p = newPlugin(t, r) // as after kill -9: the ports that were chosen are published again
	step("RevokeExternalConnectivity", on("n", "e"), "Unpublish n e", "[]")
	step("RevokeExternalConnectivity", on("n", "e"), "", "[]")
	step("ProgramExternalConnectivity", program("n", "e", bind443), "Publish n e [[::1]:8443-8450->443/tcp]", "[[::1]:32768->443/tcp]")
	p = newPlugin(t, r)
	p.d.restore(t.Context())
	if got := r.taken(); got[len(got)-1] != "Publish n e [[::1]:32768->443/tcp]" {
		t.Errorf("restore asked the driver %q", got)
	}
	step("Leave", on("n", "e"), "Unpublish n e", "[]") // dockerd 29 sends no Revoke after a crash
	step("ProgramExternalConnectivity", program("n", "e", bind80), "Publish n e [8080->80/tcp]", "[8080->80/tcp]")
	step("ProgramExternalConnectivity", program("n", "e"), "Unpublish n e", "[]")

	if status, got := p.call("NetworkDriver.ProgramExternalConnectivity", program("n", "x", bind80)); status != 500 || errOf(t, got) != "network n: endpoint x does not exist" {
		t.Errorf("unknown endpoint: %d %s", status, got)
	}
}

// TestPublishFailsAtEachStep: the record never lacks what is published.
func TestPublishFailsAtEachStep(t *testing.T) {
	stateDirs(t)
	r := newPublisher()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	var req connectivityRequest
	if err := json.Unmarshal([]byte(program("n", "e", bind53)), &req); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		_, err := p.d.programConnectivity(netnstest.FailAfter(t.Context(), n), req)
		if err == nil {
			if n < 4 {
				t.Errorf("ProgramExternalConnectivity has %d steps that can fail, want at least 4", n)
			}
			return
		}
		e, err := p.d.endpoints.Get(t.Context(), "rec", "n", "e")
		if err != nil || len(r.has["e"]) > len(e.Ports) {
			t.Fatalf("failed at step %d with %v published and %v, %v recorded", n, r.has["e"], e.Ports, err)
		}
		p.must("NetworkDriver.Leave", on("n", "e"))
		if len(r.has["e"]) != 0 {
			t.Fatalf("failed at step %d, and after Leave %v is published", n, r.has["e"])
		}
	}
	t.Fatal("ProgramExternalConnectivity never succeeds")
}

// TestNoRecordNoPorts: what is published is found without the record.
func TestNoRecordNoPorts(t *testing.T) {
	stateDirs(t)
	r := newPublisher()
	p := newPlugin(t, r)
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateEndpoint", endpoint("n", "e"))
	p.must("NetworkDriver.ProgramExternalConnectivity", program("n", "e", bind80))
	if err := os.RemoveAll(os.Getenv("BOWLINE_RUN_DIR")); err != nil {
		t.Fatal(err)
	}
	r.taken()
	p.must("NetworkDriver.RevokeExternalConnectivity", on("n", "e"))
	p.must("NetworkDriver.Leave", on("n", "e"))
	p.must("NetworkDriver.DeleteEndpoint", on("n", "e"))
	if got, want := strings.Join(r.taken(), "; "), "Unpublish n e; DeleteEndpoint n e"; got != want {
		t.Errorf("the driver was asked %s, want %s", got, want)
	}
}

// TestDriverWithoutPorts: refused where they would be published, which is not
// through each network of the container.
func TestDriverWithoutPorts(t *testing.T) {
	stateDirs(t)
	p := newPlugin(t, newRecorder())
	p.must("NetworkDriver.CreateNetwork", network("n", ``))
	p.must("NetworkDriver.CreateEndpoint", program("n", "e", bind80))
	const want = "bowline-rec publishes no ports, for its containers have an address of their own with all their ports: want the container without -p, or its default route through another network, as -o isDefaultGateway=false leaves it"
	if status, got := p.call("NetworkDriver.ProgramExternalConnectivity", program("n", "e", bind80)); status != 500 || errOf(t, got) != want {
		t.Errorf("ProgramExternalConnectivity: %d %s, want %s", status, got, want)
	}
	p.must("NetworkDriver.ProgramExternalConnectivity", program("n", "e"))
}
