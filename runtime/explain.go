package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
)

// A Step is one thing that a CNI command would do.
type Step struct {
	Plugin string `json:"plugin"`
	Kind   string `json:"kind"`  // link, sysctl, nft, command, record, address or note
	Where  string `json:"where"` // "host" or "sandbox"
	What   string `json:"what"`
}

// An Explanation is what a CNI command would do, in order, and the result that it
// would have, or the error.
type Explanation struct {
	Steps  []Step          `json:"steps"`
	Result json.RawMessage `json:"result,omitempty"` // of the last plugin of ours
	Error  string          `json:"error,omitempty"`
}

// Explain returns what ADD or DEL of a container would do, without doing it.
// conf is a CNI configuration or configuration list. netns may be empty: then
// the container is one without links. Plugins of others cannot be asked.
func (r *Runtime) Explain(ctx context.Context, verb string, conf []byte, container, ifname, netns string) (Explanation, error) {
	var x Explanation
	plugins, err := chain(conf)
	if err != nil {
		return x, err
	}
	if verb == "DEL" {
		slices.Reverse(plugins)
	}
	args := []string{"-container", container, "-ifname", ifname}
	if netns != "" {
		args = append(args, "-netns", netns)
	}
	for _, p := range plugins {
		var kind string
		_ = json.Unmarshal(p["type"], &kind)
		if !slices.ContainsFunc(r.Plugins(), func(ours Plugin) bool { return ours.Name == kind }) {
			x.Steps = append(x.Steps, Step{kind, "note", "host", fmt.Sprintf("run %s %s: not a plugin of ours, so what it does cannot be told", kind, verb)})
			continue
		}
		if x.Result != nil && verb == "ADD" {
			p["prevResult"] = x.Result
		}
		if err := r.explain(ctx, &x, verb, kind, p, args); err != nil || x.Error != "" {
			return x, err
		}
	}
	return x, nil
}

// explain asks one plugin.
func (r *Runtime) explain(ctx context.Context, x *Explanation, verb, kind string, conf map[string]json.RawMessage, args []string) error {
	in, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	type row struct {
		Step
		Result json.RawMessage
		Error  string
	}
	return Follow(ctx, r, Verb{
		Name: "explain", Args: append(slices.Clone(args), verb), Driver: strings.TrimPrefix(kind, "bowline-"), Stdin: bytes.NewReader(in),
	}, func(a From[row]) error {
		if a.Row.What != "" {
			a.Row.Plugin = kind
			x.Steps = append(x.Steps, a.Row.Step)
			return nil
		}
		if a.Row.Result != nil {
			x.Result = a.Row.Result
		}
		x.Error = a.Row.Error
		return nil
	})
}

// chain returns the plugins of a configuration or of a list, each with the name
// and version of the network, as a CNI runtime would give it.
func chain(conf []byte) ([]map[string]json.RawMessage, error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(conf, &whole); err != nil {
		return nil, bowline.Wrong(bowline.ErrInvalid, "read the configuration: "+err.Error())
	}
	if whole["plugins"] == nil {
		if whole["type"] == nil {
			return nil, bowline.Wrong(bowline.ErrInvalid, `read the configuration: want a "type", or a list of "plugins" that have one`)
		}
		return []map[string]json.RawMessage{whole}, nil
	}
	var plugins []map[string]json.RawMessage
	if err := json.Unmarshal(whole["plugins"], &plugins); err != nil || len(plugins) == 0 {
		return nil, bowline.Wrong(bowline.ErrInvalid, errors.Join(errors.New(`read the configuration: want "plugins" that is a list of objects`), err).Error())
	}
	for i, p := range plugins {
		p = maps.Clone(p)
		for _, key := range []string{"name", "cniVersion"} {
			if whole[key] != nil {
				p[key] = whole[key]
			}
		}
		plugins[i] = p
	}
	return plugins, nil
}
