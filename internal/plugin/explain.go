package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bowline-net/bowline/internal/cni"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/plan"
	"github.com/bowline-net/bowline/internal/state"
)

// Explained is what explain prints with -json: one line per step, then one with
// the result, or the error, that the command would have had.
type Explained struct {
	*plan.Step
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// explain prints what a CNI command would do. The driver and the face are those
// that would do it, with handles that write down what they are told, and with
// copies of our records.
func (s Spec) explain(ctx context.Context, c *call) error {
	cmd := cni.Command{Path: os.Getenv("CNI_PATH"), Args: os.Getenv("CNI_ARGS")}
	fs := c.flags()
	fs.StringVar(&cmd.ContainerID, "container", "explain", "")
	fs.StringVar(&cmd.IfName, "ifname", "eth0", "")
	fs.StringVar(&cmd.Netns, "netns", "", "")
	given, err := c.parse(fs, "ADD or DEL")
	if err != nil {
		return err
	}
	cmd.Verb = strings.ToUpper(given[0])
	if cmd.Verb != "ADD" && cmd.Verb != "DEL" {
		return usageError{fmt.Errorf("%s cannot be explained: want ADD or DEL", given[0])}
	}
	if cmd.Path == "" {
		cmd.Path = "/opt/cni/bin:/usr/lib/cni"
	}
	if cmd.Stdin, err = io.ReadAll(c.stdin); err != nil {
		return err
	}
	p := new(plan.Plan)
	records, err := copyRecords(p, cmd.Stdin)
	if err != nil {
		return err
	}
	defer records.remove()
	p.Before(records.note)
	links := link.NewDry(p)
	links.Space("host", nil, false)
	result, err := cni.Explain(ctx, cmd, links, func() (cni.Face, error) {
		d, err := s.Explain(links)
		return cni.Face{Name: s.Name, Driver: d}, err
	})
	records.note()
	return c.printPlan(p.Steps(), result, err)
}

func (c *call) printPlan(steps []plan.Step, result []byte, failed error) error {
	if !c.json {
		for _, s := range steps {
			fmt.Fprintf(c.stdout, "%-8s %-8s %s\n", s.Where, s.Kind, s.What)
		}
		return failed
	}
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	for _, s := range steps {
		if err := e.Encode(Explained{Step: &s}); err != nil {
			return err
		}
	}
	last := Explained{Result: result}
	if failed != nil {
		last = Explained{Error: failed.Error()}
	}
	return e.Encode(last)
}

// A recordCopy is a copy of our records that a plan may change, and what of it
// has been told.
type recordCopy struct {
	plan     *plan.Plan
	dir      string // of the copy
	run, lib string // the directories that it stands for
	told     map[string]string
}

// copyRecords has this process use copies of what our directories hold, as far
// as a command of the configuration's network looks at it.
func copyRecords(p *plan.Plan, conf []byte) (*recordCopy, error) {
	var network struct{ Name string }
	_ = json.Unmarshal(conf, &network) // the face will say what is wrong
	dir, err := os.MkdirTemp("", "bowline-explain-")
	if err != nil {
		return nil, err
	}
	r := &recordCopy{plan: p, dir: dir, run: state.Run().Dir, lib: state.Lib().Dir, told: map[string]string{}}
	stores, _ := filepath.Glob(filepath.Join(r.run, "ipam", "*", state.Key(network.Name)))
	for _, from := range append(stores, filepath.Join(r.run, "endpoints"), filepath.Join(r.run, "host", "loans")) {
		rel, _ := filepath.Rel(r.run, from)
		err = errors.Join(err, copyTree(from, filepath.Join(dir, "run", rel)))
	}
	if err != nil {
		r.plan.Add(plan.Note, "host", "%s cannot be read without privileges: the plan is that for a host without any records", r.run)
	}
	for env, dir := range map[string]string{"BOWLINE_RUN_DIR": filepath.Join(dir, "run"), "BOWLINE_LIB_DIR": filepath.Join(dir, "lib")} {
		if err := os.Setenv(env, dir); err != nil {
			r.remove()
			return nil, err
		}
	}
	r.told = r.files()
	return r, nil
}

func (r *recordCopy) remove() { _ = os.RemoveAll(r.dir) }

// copyTree copies directories, files and symbolic links. Nothing to copy is no
// error.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return ignoreGone(err)
			}
			return os.Symlink(to, target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return ignoreGone(err)
			}
			return os.WriteFile(target, data, 0o600)
		}
		return nil
	})
}

// ignoreGone forgives what somebody removed meanwhile.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
