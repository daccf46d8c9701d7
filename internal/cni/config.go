package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bowline-net/bowline"
)

// newest is the version of the spec that errors are printed in when the caller
// did not say which it speaks.
const newest = "1.1.0"

// versions are those that we speak.
var versions = [...]string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// A Config is the network's configuration on standard input.
type Config struct {
	CNIVersion string
	Name       string
	Type       string
	IPAMType   string // empty: L2 only
	DNS        types.DNS
	HasDNS     bool
	MAC        string // by runtimeConfig, args.cni or CNI_ARGS, in this order
	DeviceID   string // of the deviceID capability: a device that the engine has chosen
	PrevResult json.RawMessage
	Ports      []bowline.PortMapping // of the portMappings capability
	Rates      bowline.Rates         // of the configuration, else of the bandwidth capability
	Policy     [2]string             // rules for the endpoint, of runtimeConfig and of args.cni
	// Valid lists the attachments that GC must keep; nil if the key is absent,
	// which is not the same as an empty list.
	Valid []types.GCAttachment
	// Options are the keys of the driver's grammar.
	Options map[string]string
	// Own are those of the endpoint.
	Own map[string]string
}

// structural are the keys that are not options of a driver.
var structural = [...]string{
	"cniVersion", "cniVersions", "name", "type", "ipam", "dns", "prevResult", "args", "runtimeConfig", "capabilities",
	"disableCheck", "disableGC", "loadOnlyInlinedPlugins",
	"ingressRate", "ingressBurst", "egressRate", "egressBurst",
}

// Parse reads the configuration. Errors have code 6 for JSON that is none and
// 7 for values that are wrong.
func Parse(c Command) (Config, error) {
	d, err := readDocument(c.Stdin)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{
		CNIVersion: d.text("cniVersion"), Name: d.text("name"), Type: d.text("type"), PrevResult: d.all["prevResult"],
		IPAMType: d.in("ipam").text("type"), DeviceID: d.in("runtimeConfig").text("deviceID"),
		MAC: first(d.in("runtimeConfig").text("mac"), d.in("args").in("cni").text("mac"), c.arg("MAC")),
	}
	if cfg.CNIVersion == "" {
		cfg.CNIVersion = versions[0] // spec 0.1.0: the key may be missing
	}
	// Engines and plugins that write the configuration anew leave an empty
	// object where nothing was.
	d.into("dns", &cfg.DNS)
	cfg.HasDNS = !cfg.DNS.IsEmpty()
	// The second is what libcni called it before the spec was final, and still sends.
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		if d.has(key) && cfg.Valid == nil {
			cfg.Valid = []types.GCAttachment{}
			d.into(key, &cfg.Valid)
		}
	}
	if *d.err != nil {
		return cfg, *d.err
	}
	return cfg, cfg.complete(d)
}

// complete reads what is right or wrong by its value.
func (cfg *Config) complete(d document) (err error) {
	if !slices.Contains(versions[:], cfg.CNIVersion) {
		return &Error{Code: CodeVersion, Msg: fmt.Sprintf("cniVersion %q: want one of %s", cfg.CNIVersion, strings.Join(versions[:], ", "))}
	}
	if !validID(cfg.Name) {
		return invalid("network name %q: want letters, digits, dots, underscores and hyphens, a letter or digit first", cfg.Name)
	}
	if cfg.Ports, err = portMappings(d.in("runtimeConfig")); err != nil {
		return err
	}
	if cfg.Rates, err = rates(d); err != nil {
		return err
	}
	cfg.Policy = policyTexts(d)
	cfg.Options, cfg.Own = options(d.all), ownOptions(d)
	return *d.err
}

// options returns the keys that belong to the driver, as text: JSON lists and
// objects stay JSON.
func options(all map[string]json.RawMessage) map[string]string {
	opts := map[string]string{}
	for k, raw := range all {
		// Keys with a slash or a dot are somebody's extension, with a leading
		// underscore somebody's comment.
		if slices.Contains(structural[:], k) || strings.ContainsAny(k, "/.") || strings.HasPrefix(k, "_") || string(raw) == "null" {
			continue
		}
		opts[k] = text(raw)
	}
	return opts
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

func first(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}
