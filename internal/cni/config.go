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
	PrevResult json.RawMessage
	Ports      []bowline.PortMapping // of the portMappings capability
	Rates      bowline.Rates         // of the configuration, else of the bandwidth capability
	// Valid lists the attachments that GC must keep; nil if the key is absent,
	// which is not the same as an empty list.
	Valid []types.GCAttachment
	// Options are the keys of the driver's grammar.
	Options map[string]string
}

// document is the part of the input that every plugin has; the rest are options.
type document struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	IPAM       *struct{ Type string }
	DNS        *types.DNS
	PrevResult json.RawMessage `json:"prevResult"`
	Args       struct {
		CNI struct{ MAC string } `json:"cni"`
	} `json:"args"`
	bandwidth
	RuntimeConfig struct {
		MAC          string
		PortMappings []portMapping
		Bandwidth    *bandwidth
	} `json:"runtimeConfig"`
	Valid *[]types.GCAttachment `json:"cni.dev/valid-attachments"`
	// OldValid is what libcni called it before the spec was final, and still sends.
	OldValid *[]types.GCAttachment `json:"cni.dev/attachments"`
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
	var doc document
	if err := json.Unmarshal(c.Stdin, &doc); err != nil {
		return Config{}, &Error{Code: CodeDecode, Msg: "read the network configuration: " + describe(err)}
	}
	cfg := Config{
		CNIVersion: doc.CNIVersion, Name: doc.Name, Type: doc.Type, PrevResult: doc.PrevResult,
		MAC: first(doc.RuntimeConfig.MAC, doc.Args.CNI.MAC, c.arg("MAC")),
	}
	if cfg.CNIVersion == "" {
		cfg.CNIVersion = versions[0] // spec 0.1.0: the key may be missing
	}
	if doc.IPAM != nil {
		cfg.IPAMType = doc.IPAM.Type
	}
	// Engines and plugins that write the configuration anew leave an empty
	// object where nothing was.
	if doc.DNS != nil && !doc.DNS.IsEmpty() {
		cfg.DNS, cfg.HasDNS = *doc.DNS, true
	}
	if doc.Valid == nil {
		doc.Valid = doc.OldValid
	}
	if doc.Valid != nil {
		cfg.Valid = append([]types.GCAttachment{}, *doc.Valid...)
	}
	if !slices.Contains(versions[:], cfg.CNIVersion) {
		return cfg, &Error{Code: CodeVersion, Msg: fmt.Sprintf("cniVersion %q: want one of %s", cfg.CNIVersion, strings.Join(versions[:], ", "))}
	}
	if !validID(cfg.Name) {
		return cfg, invalid("network name %q: want letters, digits, dots, underscores and hyphens, a letter or digit first", cfg.Name)
	}
	var err error
	if cfg.Ports, err = portMappings(doc.RuntimeConfig.PortMappings); err != nil {
		return cfg, err
	}
	if cfg.Rates, err = rates(doc.bandwidth, doc.RuntimeConfig.Bandwidth); err != nil {
		return cfg, err
	}
	cfg.Options, err = options(c.Stdin)
	return cfg, err
}

// options returns the keys that belong to the driver, as text: JSON lists and
// objects stay JSON.
func options(stdin []byte) (map[string]string, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &all); err != nil {
		return nil, &Error{Code: CodeDecode, Msg: "read the network configuration: " + describe(err)}
	}
	opts := map[string]string{}
	for k, raw := range all {
		// Keys with a slash or a dot are somebody's extension, with a leading
		// underscore somebody's comment.
		if slices.Contains(structural[:], k) || strings.ContainsAny(k, "/.") || strings.HasPrefix(k, "_") || string(raw) == "null" {
			continue
		}
		opts[k] = text(raw)
	}
	return opts, nil
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

// describe says where JSON is wrong in words of the file, not of Go.
func describe(err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok {
		return fmt.Sprintf("key %s: want %s, not %s", e.Field, e.Type, e.Value)
	}
	return err.Error()
}

func first(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}
