package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/state"
)

// A Face speaks CNI for one driver.
type Face struct {
	Name   string // of the driver, such as "bridge"
	Driver bowline.Driver
}

// Main runs the one command that the environment names, for the driver of that
// name. It returns the exit status: 0 done, 1 failed. newFace is called once the
// command is known to be well formed, and not for VERSION.
func Main(driver string, stdin io.Reader, stdout io.Writer, newFace func() (Face, error)) int {
	return answer(driver, stdin, stdout, func(ctx context.Context, c Command) (Config, error) {
		return run(ctx, c, stdout, newFace)
	})
}

// answer reads the command, has it run, and prints the error if there is one.
func answer(driver string, stdin io.Reader, stdout io.Writer, run func(context.Context, Command) (Config, error)) int {
	start := time.Now()
	c, err := Read(stdin)
	ctx := begin(driver, c)
	var cfg Config
	if err == nil {
		cfg, err = run(ctx, c)
	}
	if err != nil {
		if perr := PrintError(stdout, err, cfg.CNIVersion); perr != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	end(journal.With(ctx, "network", cfg.Name), driver, c, err, start)
	if err != nil {
		return 1
	}
	return 0
}

// run returns the configuration beside the error, for errors are printed in its
// version and logged with its network.
func run(ctx context.Context, c Command, stdout io.Writer, newFace func() (Face, error)) (Config, error) {
	if c.Verb == "VERSION" {
		return Config{}, printVersion(c, stdout)
	}
	cfg, err := Parse(c)
	if err != nil {
		return cfg, err
	}
	ctx = journal.With(ctx, "network", cfg.Name)
	if err := supports(c.Verb, cfg.CNIVersion); err != nil {
		return cfg, err
	}
	f, err := newFace()
	if err != nil {
		return cfg, err
	}
	o := op{Face: f, Command: c, Config: cfg, endpoints: state.OpenEndpoints()}
	switch c.Verb {
	case "ADD":
		var r *types100.Result
		if r, err = o.addOrShare(ctx); err == nil {
			if err = printResult(stdout, r, cfg.CNIVersion); err != nil { // nobody will know of it
				err = errors.Join(err, o.del(context.WithoutCancel(ctx)))
			}
		}
	case "DEL":
		err = o.del(ctx)
	case "CHECK":
		err = o.check(ctx)
	case "GC":
		err = o.gc(ctx)
	case "STATUS":
		err = o.status(ctx)
	}
	return cfg, err
}

// An op is one command on its way.
type op struct {
	Face
	Command
	Config
	endpoints state.Endpoints
}

// supports refuses verbs that the configuration's version does not have.
func supports(verb, cniVersion string) error {
	since := map[string]string{"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}[verb]
	if since == "" || slices.Index(versions[:], cniVersion) >= slices.Index(versions[:], since) {
		return nil
	}
	return &Error{Code: CodeVersion, Msg: fmt.Sprintf("%s needs cniVersion %s or newer, the configuration says %s", verb, since, cniVersion)}
}

func printVersion(c Command, stdout io.Writer) error {
	var in struct {
		CNIVersion string `json:"cniVersion"`
	}
	_ = json.Unmarshal(c.Stdin, &in) // the answer is the same without input
	if !slices.Contains(versions[:], in.CNIVersion) {
		in.CNIVersion = newest
	}
	return json.NewEncoder(stdout).Encode(map[string]any{"cniVersion": in.CNIVersion, "supportedVersions": versions})
}
