package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A verb is what a plugin does when its name is the first argument.
type verb struct {
	name  string
	args  string // as the help screen shows them
	about string
	run   func(Spec, context.Context, *call) error
}

// verbs returns what every plugin can do for people and for the command line
// bowline, each in a file of its own. With -json a verb prints one JSON object
// per line, so that answers of several plugins are joined by printing them one
// after the other, and those of a verb that goes on can be read as they come.
func verbs() []verb {
	return []verb{
		{"serve", "", "serve Docker as its network driver", Spec.serve},
		{"list", "[-json]", "print the endpoints that exist", Spec.list},
		{"prune", "", "remove what no container uses any more", Spec.prune},
		{"diff", "[-json]", "print what is not as it was left", Spec.differs},
		{"repair", "[-watch] [-json]", "make right what is not as it was left", Spec.repairs},
		{"stats", "[-json]", "print what passed each endpoint", Spec.stats},
		{"explain", "[-container ID] [-netns PATH] [-ifname NAME] [-json] ADD|DEL", "print what a CNI command would do, and do nothing; its configuration is on standard input", Spec.explain},
		{"shape", "[-KEY RATE] NETWORK ENDPOINT", "limit the rates of an endpoint, by the keys ingressRate and so on", Spec.shape},
		{"policy", "[-json] NETWORK ENDPOINT RULES", "change whom an endpoint may talk to", Spec.policy},
	}
}

// Exit statuses, as the help screen lists them.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitFound // something that differs
	exitNoVerb
)

// A call is one run of a verb.
type call struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// errFound makes the exit status say that something was found; what there is to
// say has been printed.
var errFound = errors.New("found something")

// command runs one verb and returns the exit status.
func (s Spec) command(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name := "bowline-" + s.Name
	if len(args) == 0 {
		args = []string{"help"}
	}
	var err error
	switch args[0] {
	case "help", "-h", "-help", "--help":
		err = s.help(stdout)
	case "version", "-version", "--version":
		_, err = fmt.Fprintf(stdout, "%s %s\n", name, s.Version)
	default:
		var names []string
		for _, v := range verbs() {
			if v.name == args[0] {
				return s.run(v, &call{args: args[1:], stdin: stdin, stdout: stdout, stderr: stderr})
			}
			names = append(names, v.name)
		}
		fmt.Fprintf(stderr, "%s: unknown command %q: want %s, help or version; CNI needs CNI_COMMAND in the environment\n", name, args[0], strings.Join(names, ", "))
		return exitNoVerb
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitFailed
	}
	return exitDone
}

// run runs the verb until it ends, or is told to by SIGTERM or SIGINT.
func (s Spec) run(v verb, c *call) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := v.run(s, ctx, c)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, flag.ErrHelp):
		_ = s.help(c.stdout)
		return exitDone
	case err == errFound:
		return exitFound
	}
	fmt.Fprintf(c.stderr, "bowline-%s %s: %v\n", s.Name, v.name, err)
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// flags returns an empty set of flags; those of verbs that print rows get -json.
func (c *call) flags() *flag.FlagSet {
	fs := NewOptions()
	fs.BoolVar(&c.json, "json", false, "print one JSON object per line")
	return fs
}

// parse reads the flags, and the arguments that the verb takes, by their names.
// One whose name is in brackets may be missing, and is "" then.
func (c *call) parse(fs *flag.FlagSet, names ...string) ([]string, error) {
	if err := fs.Parse(c.args); err != nil {
		return nil, usageError{err}
	}
	given := fs.Args()
	if len(given) > len(names) {
		return nil, usageError{fmt.Errorf("unexpected argument %q", given[len(names)])}
	}
	for _, n := range names[len(given):] {
		if !strings.HasPrefix(n, "[") {
			return nil, usageError{fmt.Errorf("%s is missing", n)}
		}
		given = append(given, "")
	}
	return given, nil
}
