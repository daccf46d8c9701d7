package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/bowline-net/bowline"
)

// Sysctl returns the value of the setting; key is as in [Handle.SetSysctl].
func (h *Handle) Sysctl(ctx context.Context, key string) (value string, err error) {
	what := "read sysctl " + key
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if dry := h.conn.dry; dry != nil {
		value, _ := dry.sysctl(key)
		return strings.TrimSpace(value), nil
	}
	err = h.inside(func() error {
		data, err := os.ReadFile("/proc/sys/" + key)
		value = string(bytes.TrimSpace(data))
		return err
	})
	if os.IsNotExist(err) {
		return "", bowline.Wrong(bowline.ErrNoKernel, what+": no such setting")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return value, nil
}

// SetSysctl writes value to the setting below /proc/sys that key names with
// slashes, such as "net/ipv4/ip_forward", unless it has that value. It reports
// what it was before. A missing setting is [bowline.ErrNoKernel].
func (h *Handle) SetSysctl(ctx context.Context, key, value string) (before string, err error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("set sysctl %s=%s: %w", key, value, err)
	}
	return h.setSysctl(key, value)
}

func (h *Handle) setSysctl(key, value string) (before string, err error) {
	what := fmt.Sprintf("set sysctl %s=%s", key, value)
	if dry := h.conn.dry; dry != nil {
		if before, _ = dry.sysctl(key); strings.TrimSpace(before) != value {
			dry.setSysctl(key, value)
		}
		return strings.TrimSpace(before), nil
	}
	err = h.inside(func() error {
		path := "/proc/sys/" + key
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		before = string(bytes.TrimSpace(data))
		if before == value {
			return nil
		}
		return os.WriteFile(path, []byte(value), 0o644)
	})
	if os.IsNotExist(err) {
		return "", bowline.Wrong(bowline.ErrNoKernel, what+": no such setting")
	}
	if err != nil {
		return before, fmt.Errorf("%s: %w", what, err)
	}
	return before, nil
}

// leadsToContainers tells IPv6 that it is so of a link. Containers must not give
// the host routes: no router advertisement is accepted (CVE-2020-10749). And
// nobody else has the link-local address, which is not to be waited for: while
// it is tentative the host forwards nothing to neighbours that it has to ask for
// (ndisc_solicit in net/ipv6/ndisc.c).
func (h *Handle) leadsToContainers(name string) error {
	for _, key := range []string{"accept_ra", "accept_dad"} {
		_, err := h.setSysctl("net/ipv6/conf/"+name+"/"+key, "0")
		if errors.Is(err, bowline.ErrNoKernel) { // no IPv6, or an MTU too small for it
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SysctlPath turns the dotted form that people write into SetSysctl's form,
// with ifname for the word IFNAME.
func SysctlPath(key, ifname string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return strings.ReplaceAll(key, "IFNAME", ifname)
}
