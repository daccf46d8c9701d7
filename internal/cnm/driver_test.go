package cnm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/socket"
)

// A recorder is a driver that writes down what it is asked for and has its
// links in a map. It is not a kernel in disguise: what it answers is what the
// contract says, and the real driver is proven by test/e2e with a real dockerd.
type recorder struct {
	mu    sync.Mutex
	calls []string
	links map[string]bool  // host ends that exist
	fail  map[string]error // by method
	block map[string]chan struct{}
	enter chan string // told each blocked call
}

func newRecorder() *recorder {
	return &recorder{links: map[string]bool{}, fail: map[string]error{}, block: map[string]chan struct{}{}, enter: make(chan string, 10)}
}

func (r *recorder) note(ctx context.Context, method, key, format string, args ...any) error {
	r.mu.Lock()
	r.calls = append(r.calls, method+" "+fmt.Sprintf(format, args...))
	wait, err := r.block[method+" "+key], r.fail[method]
	r.mu.Unlock()
	if wait != nil {
		r.enter <- method + " " + key
		<-wait
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// taken returns the calls since the last time.
func (r *recorder) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls
	r.calls = nil
	return c
}

func (r *recorder) exists(link string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.links[link], nil
}

func (r *recorder) setFail(method string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[method] = err
}

func sorted(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, " %s=%s", k, m[k])
	}
	return b.String()
}

func (r *recorder) CreateNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	var pools []string
	for _, p := range n.Pools {
		pools = append(pools, fmt.Sprintf("%s via %s", p.Prefix, p.Gateway))
	}
	return r.note(ctx, "CreateNetwork", n.ID, "%s (%s)%s", n.ID, strings.Join(pools, ", "), sorted(n.Options))
}

func (r *recorder) DeleteNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	return r.note(ctx, "DeleteNetwork", n.ID, "%s", n.ID)
}

func (r *recorder) CreateEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	if err := r.note(ctx, "CreateEndpoint", e.ID, "%s %s %v mac=%s%s", n.ID, e.ID, e.Addrs, e.MAC, sorted(e.Options)); err != nil {
		return bowline.Attachment{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links["host-"+e.ID] = true
	a := bowline.Attachment{Link: "in-" + e.ID, MAC: e.MAC, MTU: 1500, Addrs: e.Addrs, Host: []bowline.Link{{Name: "br"}, {Name: "host-" + e.ID}}}
	if a.MAC == nil {
		a.MAC = bowline.MAC(n.ID, e.ID)
	}
	if n.Options["isDefaultGateway"] == "true" {
		for _, p := range n.Pools {
			a.Gateways = append(a.Gateways, p.Gateway)
		}
		a.Routes = []bowline.Route{{Dst: netip.MustParsePrefix("192.0.2.0/24"), Via: n.Pools[0].Gateway}, {Dst: netip.MustParsePrefix("198.51.100.0/24")}}
	}
	return a, nil
}

func (r *recorder) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := r.note(ctx, "DeleteEndpoint", e.ID, "%s %s", n.ID, e.ID); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, "host-"+e.ID)
	return nil
}

func (r *recorder) CheckEndpoint(context.Context, bowline.NetworkConfig, bowline.EndpointSpec) error {
	return nil
}

func (r *recorder) ValidateNetwork(n bowline.NetworkConfig) error {
	for k := range n.Options {
		if !slices.Contains([]string{"bridge", "firewall", "gatewayMode4", "gatewayMode6", "icc", "internal", "ipMasq", "isDefaultGateway", "isGateway", "mtu", "trustedInterfaces"}, k) {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("option %s: unknown", k))
		}
	}
	return nil
}

func (r *recorder) ValidateEndpoint(_ bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if _, ok := e.Options["bad"]; ok {
		return bowline.Wrong(bowline.ErrInvalid, "endpoint option bad: unknown")
	}
	return nil
}

var errBroken = errors.New("veth broken")

// stateDirs gives the test records of its own.
func stateDirs(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
}

// A recording is a recorder, or one that can do more.
type recording interface {
	bowline.Driver
	exists(link string) (bool, error)
	taken() []string
}

// A plugin is a face as a process would have it, started anew by newPlugin with
// the records that there are.
type plugin struct {
	t   *testing.T
	d   *NetworkDriver
	mux *socket.Mux
}

func newPlugin(t *testing.T, r recording) *plugin {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p := &plugin{t, &NetworkDriver{Driver: r, Name: "rec", LinkExists: r.exists}, socket.NewMux(log)}
	p.d.register(p.mux, log)
	return p
}

// call returns status and answer of one call.
func (p *plugin) call(method, body string) (int, string) {
	p.t.Helper()
	status, answer := p.mux.Call(p.t.Context(), method, []byte(body))
	return status, strings.TrimSpace(string(answer))
}

// must makes a call that succeeds.
func (p *plugin) must(method, body string) string {
	p.t.Helper()
	status, got := p.call(method, body)
	if status != http.StatusOK {
		p.t.Fatalf("%s %s: %d %s", method, body, status, got)
	}
	return got
}
