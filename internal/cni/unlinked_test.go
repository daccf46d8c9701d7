package cni

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

// A program is a driver of devices that have no link: what is in the sandbox
// drives them by itself.
type program struct{ wire }

func (program) CreateEndpoint(_ context.Context, _ bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	return bowline.Attachment{Addrs: e.Addrs}, nil
}

func (program) Diff(_ context.Context, places []bowline.Place) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		all[i].Attachment.Addrs = p.Endpoint.Addrs
	}
	return all
}

func (p program) Repair(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	return p.Diff(ctx, places)
}

// Without a link there is nothing to dress: the result names the interface and its
// addresses, and nothing else is done.
func TestUnlinked(t *testing.T) {
	b := newBench(t)
	b.driver = program{wire{b.host}}
	conf := `{"cniVersion":"1.1.0","name":"n",` + own
	out := b.must("ADD", conf)
	var r struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
		IPs        []struct{ Address string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].Mac != "" || r.Interfaces[0].Sandbox == "" || len(r.IPs) != 2 {
		t.Errorf("ADD: %v, %s", err, out)
	}
	b.must("CHECK", strings.TrimSuffix(conf, "}")+`,"prevResult":`+out+"}")
	b.must("DEL", conf)
	b.nothing()
}
