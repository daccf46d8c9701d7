package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConnectRates: bowline connect with limits, which shape changes afterwards.
func TestConnectRates(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web")
	h.bowline("sandbox", "create", "one", "two")
	h.bowline("connect", "one", "web", "--ingress", "100mbit", "--egress", "20mbit", "--egress-burst", "1mbit")
	if got := h.limits(); got != "bwo 100000000, bwf 20000000" {
		t.Errorf("limits are %q", got)
	}
	if out := h.bowline("shape", "one"); !strings.Contains(out, "100mbit") || !strings.Contains(out, "20mbit") {
		t.Errorf("shape prints %s", out)
	}
	h.bowline("shape", "one", "--ingress", "none")
	if got := h.limits(); got != "bwf 20000000" {
		t.Errorf("after shape limits are %q", got)
	}
	h.bowline("check")
	h.bowline("disconnect", "one", "web")
	if got := h.limits(); got != "" {
		t.Errorf("after disconnect limits are %q", got)
	}

	h.bowline("network", "create", "own", "--opt", "ingressRate=5000000")
	plain := filepath.Join(h.dir, "plain.conf")
	text := `{"cniVersion": "1.0.0", "name": "plain", "type": "bowline-bridge", "ipam": {"type": "bowline-ipam", "subnet": "10.3.0.0/24"}}`
	if err := os.WriteFile(plain, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.bowline("network", "create", "--conf", plain)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"web", "--ingress", "fast"}, 2, `--ingress "fast": want bits`},
		{[]string{"web", "--ingress", "999"}, 2, "ingressRate=999: want at least 1000 bit/s"},
		{[]string{"web", "--egress-burst", "8000"}, 2, "egressBurst=8000: want an egressRate with it"},
		{[]string{"plain", "--egress", "1mbit"}, 1, `network "plain": rates requested: want "capabilities": {"bandwidth": true}`},
		{[]string{"own", "--egress", "1mbit"}, 1, `has ingressRate=5mbit and egressRate=none: want a network without them, or bowline shape`},
	} {
		out, status := h.exitStatus(append([]string{"connect", "two"}, tt.args...)...)
		if status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("connect two %v: status %d, %s; want status %d and %s", tt.args, status, out, tt.status, tt.want)
		}
	}
	if out := h.bowline("ls", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("connects that failed left %s", out)
	}
	h.bowline("sandbox", "rm", "one", "two")
	h.bowline("network", "rm", "web", "own", "plain")
}

// TestConnectRatesChained: the reference plugin limits, which wants a burst with
// each rate.
func TestConnectRatesChained(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	conf := filepath.Join(h.dir, "chain.conflist")
	text := `{"cniVersion": "1.1.0", "name": "web", "plugins": [
		{"type": "bowline-bridge", "ipam": {"type": "bowline-ipam", "subnet": "10.3.0.0/24"}},
		{"type": "bandwidth", "capabilities": {"bandwidth": true}}]}`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "CNI_PATH="+cniPath())
	h.bowline("network", "create", "--conf", conf)
	h.bowline("sandbox", "create", "one")
	h.bowline("connect", "one", "web", "--ingress", "8mbit", "--egress", "9mbit")
	if got := h.limits(); got != "bwo 8000000, bwp 9000000" {
		t.Errorf("limits are %q", got)
	}
	h.bowline("disconnect", "one", "web")
	if got := h.limits(); got != "" {
		t.Errorf("after disconnect limits are %q", got)
	}
	h.bowline("sandbox", "rm", "one")
	h.bowline("network", "rm", "web")
}
