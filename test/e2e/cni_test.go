package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// reference reports whether the reference plugins are to be driven.
func reference() bool { return os.Getenv("BOWLINE_E2E_REFERENCE") == "1" }

// cniPath is where plugins are looked for: ours, then the reference ones.
func cniPath() string { return binDir + ":" + referenceDir() }

// referenceDir holds the reference plugins.
func referenceDir() string {
	if dir := os.Getenv("BOWLINE_REFERENCE_CNI"); dir != "" {
		return dir
	}
	if dir, err := filepath.Abs("../../.cache/ref"); err == nil && fileExists(dir) {
		return dir // what hack/setup.sh built
	}
	return "/usr/lib/cni"
}

// A conf is the configuration of one plugin as a runtime gives it on standard
// input: the plugin's object with name and cniVersion merged in.
type conf map[string]any

// with returns a copy in which key has the value.
func (c conf) with(key string, value any) conf {
	c = maps.Clone(c)
	c[key] = value
	return c
}

// network returns the configuration of a network whose containers get an
// address from each subnet, a default route and translation on the way out.
func network(name string, subnets ...string) conf {
	var ranges []any
	for _, s := range subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": s}})
	}
	ipam := map[string]any{"type": "bowline-ipam", "ranges": ranges}
	c := conf{"cniVersion": "1.1.0", "name": name, "type": "bowline-bridge", "bridge": "br-" + name,
		"isGateway": true, "isDefaultGateway": true, "ipMasq": true, "ipam": ipam}
	if reference() {
		c["type"], ipam["type"] = "bridge", "host-local"
	}
	return c
}

// ipam returns a copy in which a key of the ipam object has the value.
func (c conf) ipam(key string, value any) conf {
	ipam := maps.Clone(c["ipam"].(map[string]any))
	ipam[key] = value
	return c.with("ipam", ipam)
}

// A result is what ADD prints, of any version of the specification from 0.3.0.
type result struct {
	CNIVersion string
	Interfaces []struct {
		Name, Mac, Sandbox string
		MTU                int
	}
	IPs []struct {
		Version   string
		Address   netip.Prefix
		Gateway   netip.Addr
		Interface *int
	}
	Routes []struct {
		Dst netip.Prefix
		GW  netip.Addr
		MTU int
	}
	DNS struct {
		Nameservers []string
		Domain      string
	}
	raw json.RawMessage
}

// addr returns the address of a family, "4" or "6", without its length.
func (r result) addr(family string) string {
	for _, ip := range r.IPs {
		if ip.Address.Addr().Is4() == (family == "4") {
			return ip.Address.Addr().String()
		}
	}
	return ""
}

// gateway returns the gateway of a family.
func (r result) gateway(family string) string {
	for _, ip := range r.IPs {
		if ip.Address.Addr().Is4() == (family == "4") {
			return ip.Gateway.String()
		}
	}
	return ""
}

// A cniError is the object that a plugin prints when it fails.
type cniError struct {
	CNIVersion   string
	Code         int
	Msg, Details string
}

func (e *cniError) Error() string { return fmt.Sprintf("code %d: %s; %s", e.Code, e.Msg, e.Details) }

// code returns the CNI error code of err, 0 for nil, -1 for something else.
func code(err error) int {
	var ce *cniError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ce):
		return ce.Code
	}
	return -1
}

// A call is one execution of a plugin; what is empty is not in the environment.
type call struct {
	verb, id, netns, ifname, args string
	env                           []string          // further variables
	started                       func(kill func()) // called while it runs
}

// cni executes the plugin of c on the host, and returns what it printed.
func (h *host) cni(c conf, a call) ([]byte, error) {
	if ipam, ok := c["ipam"].(map[string]any); ok && ipam["type"] == "host-local" && ipam["dataDir"] == nil {
		c = c.ipam("dataDir", h.dir+"/cni") // not that of the machine
	}
	stdin, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	out, err := h.cniRaw(fmt.Sprint(c["type"]), stdin, a)
	if a.verb == "ADD" {
		h.usedMu.Lock()
		h.used[fmt.Sprint(c["name"])] = c
		h.usedMu.Unlock()
	}
	return out, err
}

// cniRaw is cni for a standard input that need not be JSON.
func (h *host) cniRaw(plugin string, stdin []byte, a call) ([]byte, error) {
	cmd := h.command(findPlugin(plugin))
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND="+a.verb, "CNI_PATH="+cniPath())
	for _, v := range []struct{ key, value string }{{"CNI_CONTAINERID", a.id}, {"CNI_NETNS", a.netns}, {"CNI_IFNAME", a.ifname}, {"CNI_ARGS", a.args}} {
		if v.value != "" {
			cmd.Env = append(cmd.Env, v.key+"="+v.value)
		}
	}
	cmd.Env = append(cmd.Env, a.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := h.do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		if a.started != nil {
			a.started(func() { cmd.Process.Kill() })
		}
		return cmd.Wait()
	})
	if err == nil {
		return stdout.Bytes(), nil
	}
	var ce cniError
	if json.Unmarshal(stdout.Bytes(), &ce) == nil && ce.Code != 0 {
		return stdout.Bytes(), &ce
	}
	return stdout.Bytes(), fmt.Errorf("%s %s: %w, stdout %q, stderr %q", plugin, a.verb, err, stdout.String(), stderr.String())
}

func findPlugin(name string) string {
	for _, dir := range filepath.SplitList(cniPath()) {
		if p := filepath.Join(dir, name); fileExists(p) {
			return p
		}
	}
	return name
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tryAdd runs ADD for the sandbox as eth0.
func (s *sandbox) tryAdd(c conf) (result, error) { return s.tryAddAs(c, "eth0", "") }

func (s *sandbox) tryAddAs(c conf, ifname, args string) (result, error) {
	out, err := s.h.cni(c, call{verb: "ADD", id: s.id, netns: s.path, ifname: ifname, args: args})
	if err != nil {
		return result{}, err
	}
	r := result{raw: out}
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, fmt.Errorf("result of ADD: %w in %s", err, out)
	}
	return r, nil
}

// add is tryAdd that ends the test on failure.
func (s *sandbox) add(c conf) result {
	s.h.t.Helper()
	r, err := s.tryAdd(c)
	if err != nil {
		s.h.t.Fatalf("ADD %s to %s: %v", s.id, c["name"], err)
	}
	return r
}

// del runs DEL with all that a runtime may give, and ends the test on failure.
func (s *sandbox) del(c conf, prev result) {
	s.h.t.Helper()
	if prev.raw != nil {
		c = c.with("prevResult", prev.raw)
	}
	if err := s.tryDel(c, s.path); err != nil {
		s.h.t.Fatalf("DEL %s from %s: %v", s.id, c["name"], err)
	}
}

// tryDel runs DEL with the namespace at path, which may be empty.
func (s *sandbox) tryDel(c conf, path string) error {
	out, err := s.h.cni(c, call{verb: "DEL", id: s.id, netns: path, ifname: "eth0"})
	if err == nil && len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("DEL printed %s, want nothing", out)
	}
	return err
}

// check runs CHECK with the result of ADD.
func (s *sandbox) check(c conf, prev result) error {
	_, err := s.h.cni(c.with("prevResult", prev.raw), call{verb: "CHECK", id: s.id, netns: s.path, ifname: "eth0"})
	return err
}

// gc runs GC with a list of what is still valid, as "ID/IFNAME"; nil leaves
// the key out.
func (h *host) gc(c conf, valid []string) error {
	if valid != nil {
		list := []any{}
		for _, v := range valid {
			id, ifname, _ := strings.Cut(v, "/")
			list = append(list, map[string]any{"containerID": id, "ifname": ifname})
		}
		c = c.with("cni.dev/valid-attachments", list)
	}
	_, err := h.cni(c.with("cniVersion", "1.1.0"), call{verb: "GC"})
	return err
}

// collectAll runs GC with an empty list on each network that was used. A wrong
// configuration, which nothing was attached by, has no GC.
func (h *host) collectAll() {
	h.t.Helper()
	for name, c := range h.used {
		if err := h.gc(c, []string{}); err != nil && code(err) != 7 && code(err) != 1 {
			h.t.Errorf("GC of %s at the end of the test: %v", name, err)
		}
	}
}

// status runs STATUS.
func (h *host) status(c conf) error {
	_, err := h.cni(c, call{verb: "STATUS"})
	return err
}
