package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/ipam"
)

// delegated is somebody else's IPAM plugin, called by exec (spec 1.1.0,
// "Plugin Delegation"). The cni library's invoke package would do the same but
// links OpenTelemetry and net/http into every start of this process. The
// environment is passed on as it is, trace context (TRACEPARENT, TRACESTATE,
// BAGGAGE) included.
type delegated struct {
	op
	kind string
	path string // empty: not found
}

func (o op) findDelegate(kind string) delegated {
	d := delegated{op: o, kind: kind}
	for _, dir := range filepath.SplitList(o.Path) {
		path := filepath.Join(dir, kind)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			d.path = path
			return d
		}
	}
	return d
}

func (d delegated) delegate() string { return d.kind }

// call runs the plugin with the verb and returns what it printed.
func (d delegated) call(ctx context.Context, verb string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ipam plugin %s: %s: %w", d.kind, verb, err)
	}
	if d.path == "" {
		return nil, d.missing()
	}
	if dry := dryOf(ctx); dry != nil {
		d.explain(dry, verb)
		return []byte(`{"cniVersion":"1.0.0"}`), nil
	}
	cmd := exec.CommandContext(ctx, d.path)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+d.ContainerID, "CNI_NETNS="+d.Netns, "CNI_IFNAME="+d.IfName)
	cmd.Stdin = bytes.NewReader(d.Stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, d.failure(verb, out.Bytes(), err)
	}
	return out.Bytes(), nil
}

// failure reads the error that the plugin printed; its code is passed on.
func (d delegated) failure(verb string, out []byte, err error) error {
	what := fmt.Sprintf("ipam plugin %s: %s: ", d.kind, verb)
	var e Error
	if json.Unmarshal(out, &e) == nil && e.Msg != "" {
		msg := what + e.Error()
		return &Error{Code: e.Code, Msg: msg}
	}
	return fmt.Errorf("%s%w: it printed no error: %.200q", what, err, out)
}

func (d delegated) missing() error { return &notFoundError{d.kind, d.Path} }

type notFoundError struct{ kind, path string }

func (e *notFoundError) Error() string {
	return fmt.Sprintf("ipam plugin %q is not in CNI_PATH=%q; want it installed there, or ipam type %q, which needs no other program", e.kind, e.path, ownIPAM)
}

func (e *notFoundError) Unwrap() []error { return []error{bowline.ErrInvalid, fs.ErrNotExist} }

func (d delegated) allocate(ctx context.Context, sandbox string) (lease, error) {
	out, err := d.call(ctx, "ADD")
	if err != nil {
		// The spec wants a DEL after a failed ADD: some plugins leave things.
		var missing *notFoundError
		if !errors.As(err, &missing) {
			_ = d.release(context.WithoutCancel(ctx))
		}
		return lease{}, err
	}
	r, err := d.parse(out)
	if err != nil {
		_ = d.release(context.WithoutCancel(ctx))
		return lease{}, err
	}
	return leaseOf(r, d.IfName), nil
}

// instead cannot ask for others: what was given is what the plugin gives.
func (d delegated) instead(_ context.Context, _ string, used []ipam.Conflict) (lease, error) {
	return lease{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("ipam plugin %s: the address that it gave cannot be used: %s", d.kind, conflictText(used)))
}

func (d delegated) parse(out []byte) (*types100.Result, error) {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	err := json.Unmarshal(out, &head)
	if err == nil {
		if head.CNIVersion == "" {
			head.CNIVersion = d.CNIVersion
		}
		r, cerr := create.Create(head.CNIVersion, out)
		if cerr == nil {
			return types100.NewResultFromResult(r)
		}
		err = cerr
	}
	return nil, fmt.Errorf("ipam plugin %s: ADD: read its result: %w", d.kind, err)
}

// release succeeds if the plugin is not installed any more: nothing could
// release its addresses then, and the container must still go.
func (d delegated) release(ctx context.Context) error {
	_, err := d.call(ctx, "DEL")
	var missing *notFoundError
	if errors.As(err, &missing) {
		slog.WarnContext(ctx, "addresses were not released", "error", err)
		return nil
	}
	return err
}

func (d delegated) check(ctx context.Context, _ addrs) error {
	_, err := d.call(ctx, "CHECK")
	return err
}

func (d delegated) status(ctx context.Context) error {
	_, err := d.call(ctx, "STATUS")
	var missing *notFoundError
	if errors.As(err, &missing) {
		return bowline.Wrong(bowline.ErrUnavailable, err.Error())
	}
	return tolerateOld(err)
}

func (d delegated) gc(ctx context.Context, _ map[string]bool) error {
	_, err := d.call(ctx, "GC")
	return tolerateOld(err)
}

// tolerateOld forgives a plugin that does not know a verb of spec 1.1.0.
func tolerateOld(err error) error {
	var e *Error
	if errors.As(err, &e) && (e.Code == CodeVersion || e.Code == CodeEnvironment && strings.Contains(e.Msg, "CNI_COMMAND")) {
		return nil
	}
	return err
}
