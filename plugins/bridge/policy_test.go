package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func rules(t *testing.T, text string) []bowline.PolicyRule {
	t.Helper()
	rs, err := bowline.ParsePolicy("test", text)
	must(t, err)
	return rs
}

// Broken at any step, an endpoint with a policy leaves nothing, and a change of
// the policy leaves the old one or the new one.
func TestPolicyBrokenAtEachStep(t *testing.T) {
	t.Parallel()
	host, d := newHost(t)
	n := testNetwork("web")
	must(t, d.CreateNetwork(t.Context(), n))
	e := bowline.EndpointSpec{ID: "a", IfName: "eth0", Sandbox: netnstest.New(t), Policy: rules(t, "allow ingress tcp 80; deny ingress")}
	breakAtEach := func(what string, f func(context.Context) error) {
		t.Helper()
		before := drivertest.Snapshot(t, host)
		for steps := 0; ; steps++ {
			err := f(netnstest.FailAfter(t.Context(), steps))
			if err == nil {
				if steps == 0 {
					t.Errorf("%s asks no context", what)
				}
				return
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s broken at step %d: %v", what, steps, err)
			}
			if after := drivertest.Snapshot(t, host); after != before {
				t.Fatalf("%s broken at step %d left\n%s\nwas\n%s", what, steps, after, before)
			}
		}
	}
	breakAtEach("CreateEndpoint", func(ctx context.Context) error {
		_, err := d.CreateEndpoint(ctx, n, e)
		return err
	})
	must(t, d.CheckEndpoint(t.Context(), n, e))
	e.Policy = rules(t, "deny egress")
	breakAtEach("Enforce", func(ctx context.Context) error { return d.Enforce(ctx, n, e) })
	must(t, d.CheckEndpoint(t.Context(), n, e))
	must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: e.ID}))
	if left := netnstest.Command(t, host, "nft", "list", "ruleset"); strings.Contains(left, "policy-") {
		t.Errorf("a delete by ID alone left: %s", left)
	}
}

func TestPolicyRefused(t *testing.T) {
	t.Parallel()
	_, d := newHost(t)
	network := func(key, value string) bowline.NetworkConfig {
		return bowline.NetworkConfig{ID: "web", Options: map[string]string{key: value}}
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"network", d.ValidateNetwork(network("policy", "deny egres")), `network "web": policy: rule 1 "deny egres": direction="egres": want ingress or egress; did you mean egress?`},
		{"endpoint", d.ValidateEndpoint(bowline.NetworkConfig{ID: "web"}, bowline.EndpointSpec{ID: "a", Options: map[string]string{"policy": "deny"}}), `endpoint "a": policy: rule 1 "deny": direction="": want ingress or egress`},
		{"without rules", d.ValidateEndpoint(network("firewall", "none"), bowline.EndpointSpec{ID: "a", Policy: rules(t, "deny egress")}), `network "web": option firewall="none" and a policy: want firewall="nft", for a policy takes rules`},
	}
	for _, tt := range tests {
		if fmt.Sprint(tt.err) != tt.want || !errors.Is(tt.err, bowline.ErrInvalid) {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, tt.err, tt.want)
		}
	}
	n := bowline.NetworkConfig{ID: "web"}
	must(t, d.CreateNetwork(t.Context(), n))
	e := bowline.EndpointSpec{ID: "a", IfName: "eth0", Sandbox: netnstest.New(t), Policy: rules(t, "deny egress to network db")}
	_, err := d.CreateEndpoint(t.Context(), n, e)
	if want := `endpoint "a": policy: rule 1 "deny egress to network db": want the prefixes of the network`; fmt.Sprint(err) != want {
		t.Errorf("a rule that nobody resolved:\n got %v\nwant %s", err, want)
	}
}

func TestCountsOfPolicies(t *testing.T) {
	t.Parallel()
	_, d := newHost(t)
	n := bowline.NetworkConfig{ID: "web"}
	must(t, d.CreateNetwork(t.Context(), n))
	with := bowline.EndpointSpec{ID: "a", IfName: "eth0", Sandbox: netnstest.New(t), Policy: rules(t, "deny egress tcp 25; deny ingress")}
	without := bowline.EndpointSpec{ID: "b", IfName: "eth0", Sandbox: netnstest.New(t)}
	var places []bowline.Place
	for _, e := range []bowline.EndpointSpec{with, without} {
		_, err := d.CreateEndpoint(t.Context(), n, e)
		must(t, err)
		places = append(places, bowline.Place{Network: n, Endpoint: e})
	}
	counts, err := d.Count(t.Context(), places)
	must(t, err)
	var names []string
	for _, c := range counts[0].Policy {
		names = append(names, c.Rule)
	}
	if got, want := strings.Join(names, "; "), "deny egress tcp 25; deny ingress; otherwise allow ingress; otherwise allow egress"; got != want {
		t.Errorf("counts of %q, want %q", got, want)
	}
	if counts[1].Policy != nil {
		t.Errorf("an endpoint without policy counts %v", counts[1].Policy)
	}
}
