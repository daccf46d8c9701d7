package link_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

const mbit = 1e6

// limited returns a veth with those limits, its peer in a sandbox.
func limited(t testing.TB, ns *netns.Handle, l link.Limits) *link.Handle {
	t.Helper()
	h := openIn(t, ns)
	err := h.CreateVeth(t.Context(), link.Veth{Name: "outer", Alias: "mine", Peer: "eth0", PeerMAC: bowline.MAC("c"), PeerNS: netnstest.New(t), Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func between(out, in uint64) link.Limits {
	return link.Limits{Out: link.Bucket{Rate: out}, In: link.Bucket{Rate: in}, IFB: "ifb0", Alias: "limits"}
}

// shown returns what tc and ip show of the limits, one line each.
func shown(t testing.TB, ns *netns.Handle) string {
	t.Helper()
	var b strings.Builder
	var qdiscs []struct {
		Kind, Dev string
		Options   struct{ Rate, Burst uint64 }
	}
	if err := json.Unmarshal([]byte(netnstest.Command(t, ns, "tc", "-j", "qdisc")), &qdiscs); err != nil {
		t.Fatal(err)
	}
	for _, q := range qdiscs {
		switch q.Kind {
		case "tbf":
			fmt.Fprintf(&b, "%s tbf %d %d\n", q.Dev, q.Options.Rate*8, q.Options.Burst)
		case "ingress", "clsact":
			fmt.Fprintf(&b, "%s %s\n", q.Dev, q.Kind)
			for l := range strings.Lines(netnstest.Command(t, ns, "tc", "filter", "show", "dev", q.Dev, "ingress")) {
				if _, to, ok := strings.Cut(l, "mirred (Egress Redirect to device "); ok {
					fmt.Fprintf(&b, "%s redirected to %s\n", q.Dev, strings.TrimSuffix(strings.TrimSpace(to), ") stolen"))
				}
			}
		}
	}
	for l := range strings.Lines(netnstest.Command(t, ns, "ip", "-d", "-o", "link", "show", "type", "ifb")) {
		up := strings.Contains(l, ",UP") && strings.Contains(l, "addrgenmode none") && strings.Contains(l, `alias limits`)
		fmt.Fprintf(&b, "%s ifb as it should be: %v\n", strings.TrimSuffix(strings.Fields(l)[1], ":"), up)
	}
	return b.String()
}

const (
	outShown  = "outer tbf %d %d\n"
	inShown   = "outer ingress\nouter redirected to ifb0\nifb0 tbf %d %d\n"
	ifbShown  = "ifb0 ifb as it should be: true\n"
	gigabit10 = 31250000 // bytes that 10 Gbit/s lets pass in 25 ms
)

func TestCreateVethLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		limits link.Limits
		want   string
	}{
		{"none", link.Limits{IFB: "ifb0"}, ""},
		{"out", between(100*mbit, 0), fmt.Sprintf(outShown, 100000000, 312500)},
		{"in", between(0, 10*mbit), fmt.Sprintf(inShown+ifbShown, 10000000, 31250)},
		{"both, more than 32 bits of bytes", between(10000*mbit, 100000*mbit), fmt.Sprintf(outShown+inShown+ifbShown, uint64(10e9), gigabit10, uint64(100e9), gigabit10*10)},
		{"slow", between(mbit, 0), fmt.Sprintf(outShown, 1000000, 16384)},
		{"burst as asked for", link.Limits{Out: link.Bucket{Rate: 10 * mbit, Burst: 100000}}, fmt.Sprintf(outShown, 10000000, 100000)},
		{"burst of a frame at least", link.Limits{Out: link.Bucket{Rate: 10 * mbit, Burst: 100}}, fmt.Sprintf(outShown, 10000000, 1518)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := limited(t, ns, tt.limits)
			// tc computes the burst from ticks, which are cut.
			if got := shown(t, ns); !near(got, tt.want) {
				t.Errorf("limits are\n%swant\n%s", got, tt.want)
			}
			if ds, err := h.CheckLimits(t.Context(), "outer", tt.limits); err != nil || len(ds) > 0 {
				t.Errorf("CheckLimits = %v, %v; want nothing", ds, err)
			}
			if err := h.Delete(t.Context(), "outer", "ifb0"); err != nil {
				t.Fatal(err)
			}
			if names, err := h.Names(t.Context()); err != nil || len(names) > 0 {
				t.Errorf("afterwards there are %v, %v", names, err)
			}
		})
	}
}

// near compares line by line; numbers may differ by one in a thousand.
func near(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(g) != len(w) {
		return false
	}
	for i := range g {
		var a, b float64
		_, errA := fmt.Sscanf(g[i], "%g", &a)
		_, errB := fmt.Sscanf(w[i], "%g", &b)
		if g[i] != w[i] && (errA != nil || errB != nil || a < b*0.999 || a > b*1.001) {
			return false
		}
	}
	return true
}

// TestLimit goes from each state to each other, and back to where it is.
func TestLimit(t *testing.T) {
	t.Parallel()
	states := []link.Limits{between(0, 0), between(10*mbit, 0), between(0, 20*mbit), between(30*mbit, 40*mbit), between(50*mbit, 60*mbit)}
	wants := make([]string, len(states))
	for i, s := range states {
		ns := netnstest.New(t)
		limited(t, ns, s)
		wants[i] = shown(t, ns)
	}
	for i, from := range states {
		for j, to := range states {
			t.Run(fmt.Sprintf("%d to %d", i, j), func(t *testing.T) {
				t.Parallel()
				ns := netnstest.New(t)
				h := limited(t, ns, from)
				if ds, err := h.CheckLimits(t.Context(), "outer", to); err != nil || (len(ds) > 0) != (i != j) {
					t.Errorf("CheckLimits before = %v, %v", ds, err)
				}
				for range 2 {
					if err := h.Limit(t.Context(), "outer", to); err != nil {
						t.Fatal(err)
					}
				}
				if got := shown(t, ns); got != wants[j] {
					t.Errorf("limits are\n%swant\n%s", got, wants[j])
				}
			})
		}
	}
}

// TestLimitRepairs breaks each part of the limits.
func TestLimitRepairs(t *testing.T) {
	t.Parallel()
	l := between(10*mbit, 20*mbit)
	for _, breaks := range []string{
		"tc qdisc del dev outer root",
		"tc qdisc replace dev outer root handle 1: tbf rate 1mbit burst 10kb limit 100kb",
		"tc qdisc replace dev outer root handle 7: tbf rate 10mbit burst 31250 limit 93750",
		"tc qdisc del dev outer root; tc qdisc add dev outer root handle 1: htb",
		"tc qdisc del dev outer ingress",
		"tc filter del dev outer ingress",
		"tc qdisc del dev ifb0 root",
		"tc qdisc del dev ifb0 root; tc qdisc add dev ifb0 root handle 1: htb",
		"ip link set ifb0 down",
		"ip link del ifb0",
	} {
		t.Run(breaks, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := limited(t, ns, l)
			good := shown(t, ns)
			netnstest.Command(t, ns, "sh", "-c", breaks)
			ds, err := h.CheckLimits(t.Context(), "outer", l)
			if err != nil || len(ds) != 1 || ds[0].Want == "" || ds[0].Place != "link outer" {
				t.Errorf("CheckLimits = %+v, %v; want one difference", ds, err)
			}
			if err := h.Limit(t.Context(), "outer", l); err != nil {
				t.Fatal(err)
			}
			if got := shown(t, ns); got != good {
				t.Errorf("limits are\n%swant\n%s", got, good)
			}
			if ds, err := h.CheckLimits(t.Context(), "outer", l); err != nil || len(ds) > 0 {
				t.Errorf("CheckLimits after Limit = %v, %v", ds, err)
			}
		})
	}
}

// TestLimitBesideOthers: what somebody else has on the link stays.
func TestLimitBesideOthers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"clsact", "ingress"} {
		ns := netnstest.New(t)
		h := limited(t, ns, between(0, 0))
		netnstest.Command(t, ns, "tc", "qdisc", "add", "dev", "outer", kind)
		netnstest.Command(t, ns, "tc", "filter", "add", "dev", "outer", "ingress", "prio", "5", "protocol", "ip", "u32", "match", "u32", "0", "0")
		theirs := netnstest.Command(t, ns, "tc", "filter", "show", "dev", "outer", "ingress")
		if err := h.Limit(t.Context(), "outer", between(0, 10*mbit)); err != nil {
			t.Fatal(err)
		}
		if ds, err := h.CheckLimits(t.Context(), "outer", between(0, 10*mbit)); err != nil || len(ds) > 0 {
			t.Errorf("%s: CheckLimits = %v, %v", kind, ds, err)
		}
		if err := h.Limit(t.Context(), "outer", between(0, 0)); err != nil {
			t.Fatal(err)
		}
		if got := netnstest.Command(t, ns, "tc", "filter", "show", "dev", "outer", "ingress"); got != theirs {
			t.Errorf("%s: filters are\n%swant\n%s", kind, got, theirs)
		}
	}
}

// TestLimitTakenName: the ifb's name is somebody else's.
func TestLimitTakenName(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	netnstest.Command(t, ns, "ip", "link", "add", "ifb0", "type", "bridge")
	err := h.CreateVeth(t.Context(), link.Veth{Name: "outer", Peer: "eth0", Limits: between(0, mbit)})
	if err == nil || !strings.Contains(err.Error(), "link ifb0: it exists already and is not an ifb") {
		t.Errorf("CreateVeth: %v", err)
	}
	if names, err := h.Names(t.Context()); err != nil || strings.Join(names, " ") != "ifb0" {
		t.Errorf("afterwards there are %v, %v; want ifb0, which is not ours", names, err)
	}
}

func BenchmarkCreateVethLimits(b *testing.B) {
	for _, l := range []link.Limits{between(0, 0), between(100*mbit, 0), between(0, 100*mbit), between(100*mbit, 100*mbit)} {
		b.Run(fmt.Sprintf("out=%d/in=%d", l.Out.Rate, l.In.Rate), func(b *testing.B) {
			sandbox := netnstest.New(b)
			h := open(b)
			for b.Loop() {
				err := h.CreateVeth(b.Context(), link.Veth{Name: "outer", Alias: "mine", Peer: "eth0", PeerMAC: bowline.MAC("c"), PeerNS: sandbox, Limits: l})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := h.Delete(b.Context(), "outer", "ifb0"); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
