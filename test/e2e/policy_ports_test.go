package e2e

import (
	"net"
	"testing"
)

// TestPolicyOfPublishedPorts: the policy of a container is about its own ports
// and about who asks, whatever the host's port; and one that lets nobody in gets
// answers from the ports that others publish, from its neighbour's too.
func TestPolicyOfPublishedPorts(t *testing.T) {
	t.Parallel()
	for _, bridgeNF := range []string{"0", "1"} {
		t.Run("bridge-nf "+bridgeNF, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, bridgeNF)
			published := func(host int) conf {
				return s.web.with("capabilities", map[string]any{"portMappings": true}).with("runtimeConfig", map[string]any{
					"policy":       "allow ingress tcp 80 from 192.0.2.2,2001:db8::2; deny ingress",
					"portMappings": []any{map[string]any{"hostPort": host, "containerPort": 80, "protocol": "tcp"}, map[string]any{"hostPort": host + 1, "containerPort": 443, "protocol": "tcp"}},
				})
			}
			a, c := s.h.sandbox("a"), s.h.sandbox("c")
			ra := a.add(published(8080))
			s.join("a", a, ra.addr("4"), ra.addr("6"))
			open := published(9080)
			open["runtimeConfig"].(map[string]any)["policy"] = ""
			rc := c.add(open)
			s.join("c", c, rc.addr("4"), rc.addr("6"))
			for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
				if err := mustExchange(s.at["outside"], "tcp", net.JoinHostPort(host, "8080"), "hello"); err != nil {
					t.Errorf("outside to a's port by %s: %v", host, err)
				}
				if err := exchange(s.at["outside"], "tcp", net.JoinHostPort(host, "8081"), "hello"); err == nil {
					t.Errorf("outside reaches a denied port of a by %s", host)
				}
				if err := exchange(s.at["b"], "tcp", net.JoinHostPort(host, "8080"), "hello"); err == nil {
					t.Errorf("b reaches a by %s although only the outside may", host)
				}
				if err := mustExchange(s.at["a"], "tcp", net.JoinHostPort(host, "9080"), "hello"); err != nil {
					t.Errorf("a to c's published port by %s: %v", host, err)
				}
			}
			// The other way round: c may only answer.
			c.del(open, rc)
			open["runtimeConfig"].(map[string]any)["policy"] = "deny egress"
			c.add(open)
			for _, by := range []string{"b", "a", "outside"} {
				for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
					if err := mustExchange(s.at[by], "tcp", net.JoinHostPort(host, "9080"), "hello"); err != nil {
						t.Errorf("%s to the port of c, which only answers, by %s: %v", by, host, err)
					}
				}
			}
			for _, gateway := range []string{"10.1.0.1", "fd00:1::1"} {
				if err := mustExchange(s.at["a"], "tcp", net.JoinHostPort(gateway, "9081"), "hello"); err != nil {
					t.Errorf("a to c's published port by its gateway %s: %v", gateway, err)
				}
			}
		})
	}
}
