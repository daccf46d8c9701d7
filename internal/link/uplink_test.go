package link

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestUplink(t *testing.T) {
	t.Parallel()
	host, box := netnstest.New(t), netnstest.New(t)
	h, err := Open(host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	in, err := Open(box)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ip := func(args ...string) { netnstest.Command(t, host, append([]string{"ip"}, args...)...) }
	ip("link", "add", "br0", "type", "bridge")
	ip("link", "add", "up0", "type", "veth", "peer", "name", "lan0")
	for _, pair := range [][]string{{"port0", "a", "master"}, {"end0", "b"}} {
		ip("link", "add", pair[0], "type", "veth", "peer", "name", pair[1])
		if len(pair) > 2 {
			ip("link", "set", pair[0], "master", "br0")
		}
	}
	ip("link", "add", "link", "up0", "name", "c", "type", "macvlan", "mode", "bridge")
	for _, name := range []string{"a", "b", "c"} {
		ip("link", "set", "dev", name, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), box.Fd()))
	}
	netnstest.Command(t, box, "ip", "link", "add", "name", "d", "type", "bridge")
	for name, want := range map[string]string{"a": "br0", "b": "end0", "c": "up0", "d": ""} {
		got, err := h.Uplink(t.Context(), in, name)
		if got.Name != want || (want == "") != errors.Is(err, bowline.ErrUnknown) {
			t.Errorf("behind %s is %q, %v; want %q", name, got.Name, err, want)
		}
	}
}
