package cni

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
)

// dhcpKeys are those of an "ipam" section of type bowline-dhcp. The first ones
// are of the reference's dhcp plugin, with the same meaning.
var dhcpKeys = [...]string{
	"daemonSocketPath", "provide", "request", "priority", "suppress",
	"ipv4", "ipv6", "hostname", "clientID", "acd", "timeout",
}

// maxOption bounds the value of a DHCPv4 option, in bytes.
const maxOption = 255

// A dhcpSection is one, read.
type dhcpSection struct {
	op
	document
}

// dhcpRequest reads the section "ipam". Errors have code 6 or 7.
func (o op) dhcpRequest() (r dhcp.Request, socket string, err error) {
	d, err := readDocument(o.Stdin)
	if err != nil {
		return r, "", err
	}
	s := dhcpSection{o, d.in("ipam")}
	if err := s.unknown(); err != nil {
		return r, "", err
	}
	sandbox, err := filepath.Abs(o.Netns) // the daemon has another directory
	if err != nil {
		return r, "", err
	}
	r = dhcp.Request{
		Key:     o.dhcpKey(),
		Sandbox: sandbox, Link: o.IfName, IPv4: true, IPv6: dhcp.IPv6Auto, Probe: true,
		Name: o.name(), Foreign: !strings.HasPrefix(o.Type, "bowline-"),
		Hostname: first(s.text("hostname"), o.arg("NERDCTL_CNI_DHCP_HOSTNAME"), o.arg("K8S_POD_NAME")),
	}
	s.into("ipv4", &r.IPv4)
	s.into("ipv6", &r.IPv6)
	s.into("acd", &r.Probe)
	s.into("priority", &r.Priority)
	if id := s.text("clientID"); id != "" {
		r.ClientID = append([]byte{0}, id...)
	}
	if err := s.rest(&r); err != nil {
		return r, "", err
	}
	socket = s.text("daemonSocketPath")
	return r, socket, *d.err
}

func (o op) dhcpKey() dhcp.Key {
	return dhcp.Key{Network: o.Config.Name, ID: o.ID(), IfName: o.IfName}
}

func (s dhcpSection) wrong(key string, value any, want string) error {
	return invalid("network %q: ipam: %s=%v: want %s", s.Config.Name, key, value, want)
}

func (s dhcpSection) unknown() error {
	for key, raw := range s.all {
		if key == "type" || slices.Contains(dhcpKeys[:], key) || strings.HasPrefix(key, "_") {
			continue
		}
		want := "one of the keys " + strings.Join(dhcpKeys[:], ", ")
		if near := bowline.Nearest(key, dhcpKeys[:]); near != "" {
			want = "another key, perhaps " + near
		}
		return s.wrong(key, string(raw), want)
	}
	return nil
}

// rest reads what takes more than its type to be right.
func (s dhcpSection) rest(r *dhcp.Request) error {
	words := []string{dhcp.IPv6Auto, dhcp.IPv6DHCP, dhcp.IPv6SLAAC, dhcp.IPv6Off}
	if !slices.Contains(words, r.IPv6) {
		return s.wrong("ipv6", strconv.Quote(r.IPv6), "one of the words "+strings.Join(words, ", "))
	}
	if !r.IPv4 && r.IPv6 == dhcp.IPv6Off {
		return s.wrong("ipv4", `false and ipv6="off"`, "one family at least")
	}
	if r.Priority < 0 {
		return s.wrong("priority", r.Priority, "0 or more")
	}
	seconds := 20
	s.into("timeout", &seconds)
	if seconds < 1 || seconds > 300 {
		return s.wrong("timeout", seconds, "SECONDS, 1 to 300")
	}
	r.Timeout = time.Duration(seconds) * time.Second
	var suppress []string
	s.into("suppress", &suppress)
	for _, word := range suppress {
		if word != "gateway" {
			return s.wrong("suppress", strconv.Quote(word), `["gateway"] or nothing`)
		}
		r.NoGateway = true
	}
	if err := s.provide(r); err != nil {
		return err
	}
	r.Hostname = label(r.Hostname)
	return s.request(r)
}

// provide reads the options that the server is given: by value, or by what
// CNI_ARGS say, if they do.
func (s dhcpSection) provide(r *dhcp.Request) error {
	var list []map[string]string
	s.into("provide", &list)
	for i, o := range list {
		place := fmt.Sprintf("provide[%d]", i)
		code, ok := optionCode(o["option"])
		if !ok {
			return s.wrong(place+".option", strconv.Quote(o["option"]), "a number, 1 to 254, or one of "+optionNames())
		}
		value := o["value"]
		if arg := s.arg(o["fromArg"]); o["fromArg"] != "" && arg != "" {
			value = arg
		}
		switch {
		case len(value) > maxOption:
			return s.wrong(place, fmt.Sprintf("%d bytes", len(value)), "255 bytes at most")
		case value == "":
		case code == 12:
			r.Hostname = value
		case code == 61:
			r.ClientID = []byte(value)
		default:
			r.Send = append(r.Send, dhcp.Option{Code: code, Value: []byte(value)})
		}
	}
	return nil
}

// request reads the options that are asked for besides. Those that the reference
// asks for by default, the mask and the routers, cannot be left out: who does
// not want a gateway says so by suppress.
func (s dhcpSection) request(r *dhcp.Request) error {
	var list []struct {
		Option      string
		SkipDefault bool
	}
	s.into("request", &list)
	for i, o := range list {
		if o.Option == "" && o.SkipDefault {
			continue
		}
		code, ok := optionCode(o.Option)
		if !ok {
			return s.wrong(fmt.Sprintf("request[%d].option", i), strconv.Quote(o.Option), "a number, 1 to 254, or one of "+optionNames())
		}
		r.Ask = append(r.Ask, code)
	}
	return nil
}

// options are the names of dhcp-options(5) that the reference knows.
var dhcpOptions = [...]struct {
	name string
	code uint8
}{
	{"dhcp-client-identifier", 61}, {"host-name", 12}, {"routers", 3}, {"subnet-mask", 1},
	{"user-class", 77}, {"vendor-class-identifier", 60},
}

func optionNames() string {
	var names []string
	for _, o := range dhcpOptions {
		names = append(names, o.name)
	}
	return strings.Join(names, ", ")
}

func optionCode(text string) (code uint8, ok bool) {
	for _, o := range dhcpOptions {
		if o.name == text {
			return o.code, true
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	return uint8(n), err == nil && n > 0 && n < 255
}

// label makes a host name of what people call a container: letters, digits and
// hyphens, 63 at most (RFC 1123, 2.1); the dots of a longer name stay.
func label(s string) string {
	b := []byte(s)
	for i, c := range b {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && c != '.' {
			b[i] = '-'
		}
	}
	return strings.Trim(string(b[:min(len(b), 63)]), "-.")
}

// leaseFrom is what the result says of what the daemon gave.
func leaseFrom(l dhcp.Lease) lease {
	got := lease{routes: l.Routes}
	for _, a := range l.Addrs {
		got.ips = append(got.ips, leaseIP{a.Prefix, a.Gateway})
	}
	for _, n := range l.Nameservers {
		got.dns.Nameservers = append(got.dns.Nameservers, n.String())
	}
	got.dns.Domain, got.dns.Search = l.Domain, l.Search
	return got
}
