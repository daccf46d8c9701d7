package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// CNI is what a CNI network configuration and CNI_ARGS say about addresses.
type CNI struct {
	Network    string // its name
	Config     Config
	Want       []netip.Addr // from CNI_ARGS IP, args.cni.ips, runtimeConfig.ips
	Name       string       // for Request.Name; empty if "sticky" is false
	Routes     []bowline.Route
	ResolvConf string // file to read for the result's dns; empty: none. See [ReadDNS].
}

// netConf is the part of a network configuration that we look at.
type netConf struct {
	version, name         string
	ipam                  json.RawMessage
	ips, ipRanges, argIPs json.RawMessage // of runtimeConfig, and of args.cni
}

// readNetConf goes by keys and not by a struct, which encoding/json would have
// to learn in every process that attaches one container.
func readNetConf(stdin []byte) (n netConf, err error) {
	var all, runtime, args, cni section
	if err := json.Unmarshal(stdin, &all); err != nil {
		return n, bowline.Wrong(bowline.ErrInvalid, "network configuration: "+describe(err))
	}
	if n.version, err = all.text("cniVersion"); err != nil {
		return n, err
	}
	if n.name, err = all.text("name"); err != nil {
		return n, err
	}
	n.ipam = all.get("ipam")
	for _, o := range []struct {
		key string
		raw json.RawMessage
		to  *section
	}{{"runtimeConfig", all.get("runtimeConfig"), &runtime}, {"args", all.get("args"), &args}} {
		if err := decode(o.key, o.raw, o.to, "an object"); err != nil {
			return n, err
		}
	}
	if err := decode("args.cni", args.get("cni"), &cni, "an object"); err != nil {
		return n, err
	}
	n.ips, n.ipRanges, n.argIPs = runtime.get("ips"), runtime.get("ipRanges"), cni.get("ips")
	return n, nil
}

// ParseCNI reads the configuration that a plugin gets on standard input and
// the value of CNI_ARGS.
//
// The section "ipam" has the keys of the reference's host-local with the same
// meaning: the single range subnet, rangeStart, rangeEnd, gateway; ranges;
// routes; resolvConf; dataDir, which is accepted and ignored, for allocations
// live and end with the boot. Ours are exclude, a list of prefixes and
// addresses that are never handed out; cooldown, in seconds; quarantine, a time
// such as "10m"; sticky, whether a name gets the address that it had last
// (default true). The range of the single form and runtimeConfig.ipRanges come
// before ranges.
//
// The error wraps [bowline.ErrInvalid] and names the first key that is wrong
// and what would be right. Keys of CNI_ARGS that nobody knows are no error.
func ParseCNI(stdin []byte, cniArgs string) (CNI, error) {
	n, err := readNetConf(stdin)
	if err != nil {
		return CNI{}, err
	}
	c, err := n.parse(cniArgs)
	if err != nil {
		return CNI{}, fmt.Errorf("network %q: ipam: %w", n.name, err)
	}
	return c, nil
}

func (n netConf) parse(cniArgs string) (CNI, error) {
	c := CNI{Network: n.name, Config: Config{Cooldown: DefaultCooldown}}
	if n.name == "" {
		return c, wrong("name", "", "the name of the network")
	}
	sec, err := readSection(n.ipam)
	if err != nil {
		return c, err
	}
	if c.Config.Sets, err = sec.sets(n.ipRanges); err != nil {
		return c, err
	}
	if c.Config.Exclude, err = sec.exclude(); err != nil {
		return c, err
	}
	if c.Config.Cooldown, err = sec.cooldown(); err != nil {
		return c, err
	}
	if c.Config.Quarantine, err = sec.quarantine(); err != nil {
		return c, err
	}
	sticky, err := sec.flag("sticky", true)
	if err != nil {
		return c, err
	}
	if sticky {
		c.Name = podName(cniArgs)
	}
	if c.ResolvConf, err = sec.text("resolvConf"); err != nil {
		return c, err
	}
	if _, err := sec.text("dataDir"); err != nil {
		return c, err
	}
	if c.Routes, err = sec.routes(); err != nil {
		return c, err
	}
	if c.Want, err = n.wanted(cniArgs); err != nil {
		return c, err
	}
	if err := oldVersion(n.version, c.Config.Sets); err != nil {
		return c, err
	}
	return c, c.Config.Validate()
}

// oldVersion refuses what results before 0.3.0 cannot say.
func oldVersion(v string, sets []Set) error {
	if v != "" && v != "0.1.0" && v != "0.2.0" {
		return nil
	}
	var n4, n6 int
	for _, s := range sets {
		if len(s) > 0 && s[0].Subnet.Addr().Is4() {
			n4++
		} else {
			n6++
		}
	}
	if n4 > 1 || n6 > 1 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("ranges: cniVersion %q has room for one IPv4 and one IPv6 address; want a cniVersion of at least 0.3.0, or one set of ranges per family", v))
	}
	return nil
}

// wanted collects the addresses asked for, in the three ways there are.
func (n netConf) wanted(cniArgs string) ([]netip.Addr, error) {
	var want []netip.Addr
	if v := cniArg(cniArgs, "IP"); v != "" {
		a, err := addrOf("CNI_ARGS IP", v)
		if err != nil {
			return nil, err
		}
		want = append(want, a)
	}
	for _, from := range []struct {
		key string
		raw json.RawMessage
	}{{"args.cni.ips", n.argIPs}, {"runtimeConfig.ips", n.ips}} {
		var texts []string
		if err := decode(from.key, from.raw, &texts, `a list of addresses such as ["10.1.0.5"]`); err != nil {
			return nil, err
		}
		for i, text := range texts {
			a, err := addrOf(fmt.Sprintf("%s[%d]", from.key, i), text)
			if err != nil {
				return nil, err
			}
			want = append(want, a)
		}
	}
	return want, nil
}

// podName is what Kubernetes calls the container, or "".
func podName(cniArgs string) string {
	pod, space := cniArg(cniArgs, "K8S_POD_NAME"), cniArg(cniArgs, "K8S_POD_NAMESPACE")
	if pod == "" || space == "" {
		return pod
	}
	return space + "/" + pod
}

func cniArg(args, key string) string {
	for kv := range strings.SplitSeq(args, ";") {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// addrOf reads an address; a prefix length is ignored, as in the reference.
func addrOf(key, text string) (netip.Addr, error) {
	bare, bits, ok := strings.Cut(text, "/")
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, wrong(key, text, "an IP address such as 10.1.0.5 or fd00:1::5")
	}
	a = a.Unmap()
	if n, err := strconv.Atoi(bits); ok && (err != nil || n < 0 || n > 128) {
		return netip.Addr{}, wrong(key, text, "an IP address such as 10.1.0.5, perhaps with a prefix length")
	}
	return a, nil
}

// decode reads raw, if there is anything, into v.
func decode(key string, raw json.RawMessage, v any, want string) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want %s", key, shorten(raw), want))
	}
	return nil
}

func shorten(raw json.RawMessage) string {
	text := strings.Join(strings.Fields(string(raw)), " ")
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "..."
	}
	return text
}

// describe says where JSON is wrong in words of the file, not of Go.
func describe(err error) string {
	var e *json.UnmarshalTypeError
	if errors.As(err, &e) {
		return fmt.Sprintf("key %s is a %s: want another kind of value", e.Field, e.Value)
	}
	return err.Error()
}

// maxCooldown keeps a slip of the keyboard from blocking a pool for ever.
const maxCooldown = 365 * 24 * time.Hour
