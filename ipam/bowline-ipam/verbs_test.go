package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline/ipam"
)

// mainEnv makes a process of this test binary the plugin itself.
const mainEnv = "BOWLINE_IPAM_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A host has directories of its own for the plugin.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) host { return host{t, t.TempDir()} }

// run is one call; env is of KEY=VALUE.
func (h host) run(stdin string, args []string, env ...string) (stdout string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), os.Args[0], args...)
	cmd.Env = append(env, mainEnv+"=1", "BOWLINE_RUN_DIR="+filepath.Join(h.dir, "run"), "BOWLINE_LIB_DIR="+filepath.Join(h.dir, "lib"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String() + ifNot(errs.String(), "level=ERROR", " ERROR "), cmd.ProcessState.ExitCode()
}

// ifNot returns s unless it is nothing but a log of errors.
func ifNot(s string, logs ...string) string {
	for _, l := range logs {
		if strings.Contains(s, l) {
			return ""
		}
	}
	return s
}

func (h host) cni(verb, id, conf string, env ...string) (stdout string, code int) {
	h.t.Helper()
	return h.run(conf, nil, append([]string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_NETNS=/run/netns/none", "CNI_IFNAME=eth0", "CNI_PATH=/none",
	}, env...)...)
}

func conf(version, more string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"web","type":"bridge","bridge":"x","ipam":{"type":"bowline-ipam","ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"fd00:1::/64"}]],"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}%s}`, version, more)
}

// must is cni that works and says want, spaces left out.
func (h host) must(want, verb, id, conf string, env ...string) {
	h.t.Helper()
	out, code := h.cni(verb, id, conf, env...)
	if got := strings.Join(strings.Fields(out), ""); code != 0 || got != want {
		h.t.Errorf("%s %s: status %d\n got %s\nwant %s", verb, id, code, got, want)
	}
}

// fails is cni that fails with code and message.
func (h host) fails(code uint, msg, verb, id, conf string, env ...string) {
	h.t.Helper()
	out, status := h.cni(verb, id, conf, env...)
	var e struct {
		CNIVersion string
		Code       uint
		Msg        string
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		h.t.Errorf("%s %s: %v: %s", verb, id, err, out)
		return
	}
	if status != 1 || e.Code != code || e.Msg != msg || e.CNIVersion == "" {
		h.t.Errorf("%s %s: status %d\n got %+v\nwant code %d, %s", verb, id, status, e, code, msg)
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	new11 := `"ips":[{"address":"10.1.0.2/29","gateway":"10.1.0.1"},{"address":"fd00:1::2/64","gateway":"fd00:1::1"}]`
	old := `"ips":[{"version":"4","address":"10.1.0.2/29","gateway":"10.1.0.1"},{"version":"6","address":"fd00:1::2/64","gateway":"fd00:1::1"}]`
	first := `"ip4":{"ip":"10.1.0.2/29","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00:1::2/64","gateway":"fd00:1::1"}`
	tests := map[string]string{
		"1.1.0": `{"cniVersion":"1.1.0",` + new11 + `,"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`,
		"1.0.0": `{"cniVersion":"1.0.0",` + new11 + `,"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`,
		"0.4.0": `{"cniVersion":"0.4.0",` + old + `,"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`,
		"0.3.1": `{"cniVersion":"0.3.1",` + old + `,"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`,
		"0.3.0": `{"cniVersion":"0.3.0",` + old + `,"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`,
		"0.2.0": `{"cniVersion":"0.2.0",` + first + `}`,
		"0.1.0": `{"cniVersion":"0.1.0",` + first + `}`,
	}
	for version, want := range tests {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			out, code := h.cni("ADD", "a", conf(version, ""))
			var got, wanted map[string]any
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
				t.Fatalf("status %d, %v: %s", code, err, out)
			}
			if err := json.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			delete(got, "dns") // empty; some versions print it
			if d := cmp.Diff(wanted, got); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			h.must("", "DEL", "a", conf(version, ""))
		})
	}
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := conf("1.1.0", "")
	result := func(n int) string {
		return fmt.Sprintf(`{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.%d/29","gateway":"10.1.0.1"},{"address":"fd00:1::%d/64","gateway":"fd00:1::1"}],"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}`, n, n)
	}
	h.must(`{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`, "VERSION", "", "")
	h.must("", "STATUS", "", c)
	h.must(result(2), "ADD", "a", c)
	h.fails(100, `network "web": ipam: container a, interface eth0 holds 10.1.0.2/29, fd00:1::2/64 already; release it first`, "ADD", "a", c)
	h.must(result(3), "ADD", "b", c)
	h.must("", "CHECK", "b", conf("1.1.0", `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.3/29"},{"address":"192.0.2.7/32"}]}`))
	h.fails(102, `network "web": ipam: 10.1.0.2 is reserved for container a, interface eth0, not for container b, interface eth0`,
		"CHECK", "b", conf("1.1.0", `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/29"}]}`))
	h.fails(102, `network "web": ipam: 10.1.0.4 is not reserved for container b, interface eth0`,
		"CHECK", "b", conf("1.1.0", `,"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.4/29"}]}`))
	h.fails(102, `network "web": ipam: nothing is reserved for container x, interface eth0`, "CHECK", "x", c)
	h.fails(1, `CHECK needs cniVersion 0.4.0 or newer, the configuration says 0.3.1`, "CHECK", "b", conf("0.3.1", ""))
	h.fails(100, `network "web": ipam: requested address 10.1.0.3 is taken by container b, interface eth0`, "ADD", "x", c, "CNI_ARGS=IP=10.1.0.3")
	h.fails(7, `network "web": ipam: requested address 10.1.0.1: want one of 10.1.0.2-10.1.0.6 or fd00:1::2-fd00:1::ffff:ffff:ffff:ffff`, "ADD", "x", c, "CNI_ARGS=IP=10.1.0.1")
	for i, id := range []string{"c", "d", "e"} {
		h.must(result(4+i), "ADD", id, c)
	}
	h.fails(11, `network "web": ipam: no free address in 10.1.0.2-10.1.0.6: all 5 are taken`, "ADD", "x", c)
	h.fails(50, `network "web": ipam: no free address in 10.1.0.2-10.1.0.6: all 5 are taken`, "STATUS", "", c)

	// DEL needs little, and may come again.
	for _, conf := range []string{`{"cniVersion":"1.1.0","name":"web"}`, `{"cniVersion":"1.1.0","name":"web","ipam":{"ranges":[[{"subnet":"nonsense"}]]}}`, c} {
		h.must("", "DEL", "e", conf, "CNI_NETNS=")
	}
	h.must("", "STATUS", "", c)

	// GC: no key is not an empty list.
	h.must("", "GC", "", c)
	h.must("", "CHECK", "d", c)
	h.must("", "GC", "", conf("1.1.0", `,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth1"}]`))
	h.must("", "CHECK", "a", c)
	h.fails(102, `network "web": ipam: nothing is reserved for container b, interface eth0`, "CHECK", "b", c)
	h.must("", "GC", "", conf("1.1.0", `,"cni.dev/attachments":[]`))
	if left := h.left(); len(left) > 0 {
		t.Errorf("left after GC of all: %v", left)
	}
}

// left returns what is below the run directory, but for how long commands took.
func (h host) left() []string {
	h.t.Helper()
	left, err := filepath.Glob(filepath.Join(h.dir, "run", "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "meter" })
}

func TestWrongCalls(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := conf("1.1.0", "")
	h.fails(4, `ADD needs CNI_CONTAINERID, CNI_IFNAME in the environment`, "ADD", "", c, "CNI_IFNAME=")
	h.fails(6, `read the network configuration: unexpected end of JSON input`, "ADD", "a", "{")
	h.fails(7, `network "web": ipam: ranges[0][0].subnet="10.0.0.0/33": want an IP prefix such as 10.1.0.0/24`, "ADD", "a", strings.Replace(c, "10.1.0.0/29", "10.0.0.0/33", 1))
	h.fails(1, `cniVersion "2.0.0": want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`, "ADD", "a", conf("2.0.0", ""))
	if left := h.left(); len(left) > 0 {
		t.Errorf("wrong calls left %v", left)
	}
	if out, code := h.run("", []string{"sevre"}); code != 4 || !strings.Contains(out, `unknown command "sevre"`) {
		t.Errorf("status %d: %s; want 4 and the commands that there are", code, out)
	}
	if out, code := h.run("", []string{"serve", "-sokcet", "x"}); code != 2 || !strings.Contains(out, "-sokcet") {
		t.Errorf("status %d: %s; want 2", code, out)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.cni("ADD", "a", conf("1.1.0", ""))
	out, code := h.run("", []string{"list"})
	want := "NETWORK  ADDRESS       GATEWAY    CONTAINER  INTERFACE\nweb      10.1.0.2/29   10.1.0.1   a          eth0\nweb      fd00:1::2/64  fd00:1::1  a          eth0\n"
	if code != 0 || out != want {
		t.Errorf("status %d\n got %s\nwant %s", code, out, want)
	}
	if out, code := h.run("", []string{"prune"}); code != 0 || out != "" {
		t.Errorf("prune: status %d: %s; want nothing, for nobody knows whether a lives", code, out)
	}
}

// TestListQuarantine: what others use is shown as that, and counted as that.
func TestListQuarantine(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	s := ipam.Open("web")
	c := ipam.Config{Sets: []ipam.Set{{{Subnet: netip.MustParsePrefix("10.1.0.0/29"), Gateway: netip.MustParseAddr("10.1.0.1")}}}}
	o := ipam.Owner{Container: "a", IfName: "eth0"}
	as, err := s.Allocate(t.Context(), c, ipam.Request{Owner: o})
	if err != nil {
		t.Fatal(err)
	}
	used := ipam.Conflict{Addr: as[0].Addr.Addr(), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}}
	if _, err := s.Replace(t.Context(), c, ipam.Request{Owner: o}, used); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := errors.Join(list(&out), pools(nil, &out), pools([]string{"-json"}, &out)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.1.0.3/29", "web      10.1.0.2               (quarantine)  02:00:00:00:00:05 uses it, until 20",
		"web      10.1.0.2-10.1.0.6  1     3     0        1\n", `"quarantined":1`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
