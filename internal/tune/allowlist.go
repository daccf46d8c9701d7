package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// AllowList is the file that says which settings may be asked for, the one of
// the reference tuning plugin: a regular expression per line, of which one must
// be found in the key as it is written. Without the file all are allowed.
const AllowList = "/etc/cni/tuning/allowlist.conf"

// Allowed returns nil if the list in that file allows all settings of o. The
// file is read only if there are some.
func (o Options) Allowed(file string) error {
	if len(o.Sysctls) == 0 {
		return nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what settings are allowed: %w", err)
	}
	var list []*regexp.Regexp
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		r, err := regexp.Compile(line)
		if err != nil {
			return wrong("%s: line %q: want a regular expression: %v", file, line, err)
		}
		list = append(list, r)
	}
	for _, key := range slices.Sorted(maps.Keys(o.Sysctls)) {
		if !slices.ContainsFunc(list, func(r *regexp.Regexp) bool { return r.MatchString(key) }) {
			return wrong("option sysctl: key %s: %s does not allow it", key, file)
		}
	}
	return nil
}
