// Package plugin is the main of every plugin: it knows a driver, its option
// grammar and its help, and chooses the face that the caller speaks to.
package plugin

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
)

// NewOptions returns an empty option grammar. Its flags are the keys that a
// network's configuration may have; the name between back quotes in a flag's
// usage is the kind of value, the rest says what is right.
func NewOptions() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// ParseOptions sets the flags of fs from values. The error wraps
// [bowline.ErrInvalid] and says where, which key, what was given and what would
// be right; place is, for example, `network "web"`.
func ParseOptions(fs *flag.FlagSet, place string, values map[string]string) error {
	var errs []error
	for _, key := range sortedKeys(values) {
		value := values[key]
		f := fs.Lookup(key)
		if f == nil {
			errs = append(errs, unknownKey(fs, place, key, value))
			continue
		}
		if err := fs.Set(key, value); err != nil {
			_, want := flag.UnquoteUsage(f)
			errs = append(errs, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option %s=%q: want %s", place, key, value, want)))
		}
	}
	return errors.Join(errs...)
}

func unknownKey(fs *flag.FlagSet, place, key, value string) error {
	var keys []string
	fs.VisitAll(func(f *flag.Flag) { keys = append(keys, f.Name) })
	want := "want one of the keys " + strings.Join(keys, ", ")
	if near := bowline.Nearest(key, keys); near != "" {
		want = "there is no such key; did you mean " + near + "?"
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option %s=%q: %s", place, key, value, want))
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// IntVar adds a flag for an integer from lo to hi.
func IntVar(fs *flag.FlagSet, p *int, name string, lo, hi int, usage string) {
	fs.Func(name, usage, func(s string) error { return ParseInt(s, lo, hi, p) })
}

// ParseInt reads an integer from lo to hi into p.
func ParseInt(s string, lo, hi int, p *int) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < lo || v > hi {
		return errors.New("out of range")
	}
	*p = v
	return nil
}

// EnumVar adds a flag for one of a few words.
func EnumVar(fs *flag.FlagSet, p *string, name string, words []string, usage string) {
	fs.Func(name, usage, func(s string) error {
		if !slices.Contains(words, s) {
			return errors.New("not one of them")
		}
		*p = s
		return nil
	})
}

// LinkVar adds a flag for the name of a link: 1 to 15 bytes, no slash, colon or
// space, not . or .. (dev_valid_name in the kernel), and no percent sign, which
// the kernel takes for a number to choose.
func LinkVar(fs *flag.FlagSet, p *string, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/%: \t\n\v\f\r") {
			return errors.New("not a name")
		}
		*p = s
		return nil
	})
}

// MACVar adds a flag for a unicast Ethernet address.
func MACVar(fs *flag.FlagSet, p *net.HardwareAddr, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		mac, err := ParseMAC(s)
		*p = mac
		return err
	})
}

// ParseMAC parses a unicast Ethernet address such as 02:00:00:00:00:01.
func ParseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil {
		return nil, err
	}
	if len(mac) != 6 || mac[0]&1 == 1 || slices.Equal(mac, make(net.HardwareAddr, 6)) {
		return nil, errors.New("not a unicast Ethernet address")
	}
	return mac, nil
}
