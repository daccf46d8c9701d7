package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A host is where the files are that the doctor reads; tests have their own.
type host struct {
	root string // "" for the real one
}

var here = host{}

// read returns the trimmed text of a file, or "" if it cannot be read.
func (h host) read(path string) string {
	data, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func (h host) glob(pattern string) []string {
	found, _ := filepath.Glob(filepath.Join(h.root, pattern)) // only a bad pattern is an error
	return found
}

// errMissing says that a command is not installed.
var errMissing = errors.New("is not installed")

// output returns what a command prints.
func output(ctx context.Context, argv ...string) (string, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return "", fmt.Errorf("%s %w", argv[0], errMissing)
	}
	out, err := exec.CommandContext(ctx, path, argv[1:]...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%s", strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return string(out), nil
}
