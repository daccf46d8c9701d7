// Package tune is the options of the reference tuning plugin: what may be set on
// a container's link and in its sandbox.
package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"path"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// Options are what was asked for; nil fields leave things as they are.
type Options struct {
	// Sysctls are by key as written: dotted or with slashes, below net, with
	// IFNAME where the link's name belongs.
	Sysctls  map[string]string
	Promisc  *bool
	AllMulti *bool
	TxQLen   *int // packets
}

// Keys are those of the options that a single container may have, too.
func Keys() []string { return []string{"sysctl", "mac", "promisc", "mtu", "allmulti", "txQLen"} }

// Flags puts the options into a grammar.
func (o *Options) Flags(fs *flag.FlagSet) {
	fs.Func("sysctl", `JSON object of settings in the container, such as {"net.core.somaxconn": "500"}; IFNAME stands for its link`, func(s string) (err error) {
		o.Sysctls, err = parseSysctls(s)
		return err
	})
	yesNo := func(p **bool) func(string) error {
		return func(s string) error {
			v, err := strconv.ParseBool(s)
			*p = &v
			return err
		}
	}
	fs.Func("promisc", "`BOOL`: put the container's link in promiscuous mode", yesNo(&o.Promisc))
	fs.Func("allmulti", "`BOOL`: have the container's link receive all multicast", yesNo(&o.AllMulti))
	fs.Func("txQLen", "length of the container's link's queue in `PACKETS`, 0 to 2147483647", func(s string) error {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 0 {
			return errors.New("out of range")
		}
		o.TxQLen = new(int(n))
		return nil
	})
}

// With returns o with what own says in its place.
func (o Options) With(own Options) Options {
	if len(own.Sysctls) > 0 {
		all := maps.Clone(o.Sysctls)
		if all == nil {
			all = map[string]string{}
		}
		for k, v := range own.Sysctls {
			maps.DeleteFunc(all, func(other, _ string) bool { return pathOf(other) == pathOf(k) })
			all[k] = v
		}
		o.Sysctls = all
	}
	if own.Promisc != nil {
		o.Promisc = own.Promisc
	}
	if own.AllMulti != nil {
		o.AllMulti = own.AllMulti
	}
	if own.TxQLen != nil {
		o.TxQLen = own.TxQLen
	}
	return o
}

// Link is what is to be set on the container's link.
func (o Options) Link() bowline.Tuning {
	return bowline.Tuning{Promisc: o.Promisc, AllMulti: o.AllMulti, TxQLen: o.TxQLen}
}

// pathOf is the setting's path below /proc/sys.
func pathOf(key string) string { return link.SysctlPath(key, "IFNAME") }

// parseSysctls reads an object of strings. A setting that is there twice is an
// error, as are those that are not a namespace's own.
func parseSysctls(s string) (map[string]string, error) {
	all, paths := map[string]string{}, map[string]bool{}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		var value string
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		p := pathOf(key)
		switch {
		case paths[p]:
			return nil, fmt.Errorf("key %s: want it once", key)
		case path.Clean(p) != p || !strings.HasPrefix(p, "net/"):
			return nil, fmt.Errorf("key %s: want a key that begins with net", key)
		}
		all[key], paths[p] = value, true
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than an object")
	}
	return all, nil
}

func wrong(format string, args ...any) error {
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(format, args...))
}
