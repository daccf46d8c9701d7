package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// Settings are what a link has in its namespace and loses when it leaves it,
// but for what the kernel makes by itself when the link comes up again.
type Settings struct {
	// Addrs and Routes are as the kernel told them: bodies of RTM_NEWADDR and
	// RTM_NEWROUTE.
	Addrs  [][]byte  `json:"addrs,omitempty"`
	Routes [][]byte  `json:"routes,omitempty"`
	At     time.Time `json:"at"` // when it was so; addresses may end
	// Sysctls are those of the link that differ from those of new links; keys
	// are below /proc/sys, with IFNAME for its name.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// Settings returns those of the link.
func (h *Handle) Settings(ctx context.Context, l Info) (Settings, error) {
	what := "read settings of link " + l.Name
	if err := ctx.Err(); err != nil {
		return Settings{}, fmt.Errorf("%s: %w", what, err)
	}
	s := Settings{At: time.Now().UTC()}
	m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0)
	m.u32s(uint32(l.Index))
	err := h.conn.get(m, true, func(body []byte) {
		if _, index, _ := parseAddr(body); index == l.Index && !byKernel(body) {
			s.Addrs = append(s.Addrs, slices.Clone(body))
		}
	})
	for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
		m := newMsg(unix.RTM_GETROUTE, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		m.b = append(m.b, fam, 0, 0, 0, 0, 0, 0, 0)
		m.u32s(0)
		err = errors.Join(err, h.conn.get(m, true, func(body []byte) {
			if e, ok := parseRoute(body); ok && e.Index == l.Index && restorable(e, body) {
				s.Routes = append(s.Routes, slices.Clone(body))
			}
		}))
	}
	// What leads to a gateway must be there before what leads through it.
	slices.SortStableFunc(s.Routes, func(a, b []byte) int { return hops(a) - hops(b) })
	if err == nil {
		s.Sysctls, err = h.ownSysctls(l.Name)
	}
	return s, failure(what, err)
}

// byKernel reports whether the kernel gave the address by itself, and will
// again: link-local ones, and those that routers have advertised.
func byKernel(body []byte) bool {
	if body[0] != unix.AF_INET6 {
		return false
	}
	flags, proto := uint32(body[2]), byte(0)
	attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.IFA_FLAGS && len(data) == 4:
			flags = native32(data)
		case typ == ifaProto && len(data) == 1:
			proto = data[0]
		}
	})
	p, _, _ := parseAddr(body)
	// IFAPROT_KERNEL_RA and IFAPROT_KERNEL_LL (linux/if_addr.h) are 2 and 3.
	return flags&unix.IFA_F_PERMANENT == 0 || proto == 2 || proto == 3 || proto == 0 && p.Addr().IsLinkLocalUnicast()
}

// restorable tells routes that somebody made from those that come by themselves,
// and from those that are of several links.
func restorable(e Entry, body []byte) bool {
	const cloned = 0x200 // RTM_F_CLONED
	ok := e.Protocol != unix.RTPROT_KERNEL && e.Protocol != unix.RTPROT_RA && e.Protocol != unix.RTPROT_REDIRECT &&
		*e.Table != unix.RT_TABLE_LOCAL && native32(body[8:])&cloned == 0
	// 30 is RTA_NH_ID (linux/rtnetlink.h).
	attrs(body[unix.SizeofRtMsg:], func(typ uint16, _ []byte) { ok = ok && typ != 30 && typ != unix.RTA_MULTIPATH })
	return ok
}

func hops(body []byte) int {
	if e, _ := parseRoute(body); e.Via.IsValid() {
		return 1
	}
	return 0
}

// Prefixes returns the addresses.
func (s Settings) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, body := range s.Addrs {
		if p, _, _ := parseAddr(body); p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}

// Entries returns the routes.
func (s Settings) Entries() []Entry {
	var all []Entry
	for _, body := range s.Routes {
		if e, ok := parseRoute(body); ok {
			all = append(all, e)
		}
	}
	return all
}

// RestoreAddrs gives the link its addresses and sysctls back, as far as it does
// not have them. An address whose time was over meanwhile stays away.
func (h *Handle) RestoreAddrs(ctx context.Context, l Info, s Settings) error {
	what := "restore addresses of link " + l.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(s.Sysctls)) {
		_, err := h.setSysctl(SysctlPath(k, l.Name), s.Sysctls[k])
		if !errors.Is(err, bowline.ErrNoKernel) {
			errs = append(errs, err)
		}
	}
	for _, body := range s.Addrs {
		m := newMsg(unix.RTM_NEWADDR, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		if !addrAgain(m, body, l.Index, time.Since(s.At)) {
			continue
		}
		if err := h.conn.do(m); !isExist(err) {
			errs = append(errs, err)
		}
	}
	return failure(what, errors.Join(errs...))
}

// addrAgain makes m the address that body tells of, on another link, after some
// time. It reports false if it has ended.
func addrAgain(m *msg, body []byte, index int, after time.Duration) bool {
	// The kernel says these, and takes them from nobody.
	const told = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_PERMANENT | unix.IFA_F_SECONDARY | unix.IFA_F_STABLE_PRIVACY
	m.b = append(m.b, body[0], body[1], body[2]&^uint8(told&0xff), body[3])
	m.u32s(uint32(index))
	alive := true
	attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.IFA_FLAGS && len(data) == 4:
			m.u32(typ, native32(data)&^told)
		case typ == unix.IFA_CACHEINFO && len(data) >= 16:
			info := slices.Clone(data)
			for i := range 2 { // preferred and valid lifetime
				left := native32(info[4*i:])
				if left == 1<<32-1 {
					continue
				}
				now := int64(left) - int64(after/time.Second)
				alive = alive && (i == 0 || now > 0)
				binary.NativeEndian.PutUint32(info[4*i:], uint32(max(now, 0)))
			}
			m.attr(typ, info)
		default:
			m.attr(typ, data)
		}
	})
	return alive
}

// RestoreRoutes gives the link, which must be up, its routes back, as far as
// they are not there. It returns all errors, joined.
func (h *Handle) RestoreRoutes(ctx context.Context, l Info, s Settings) error {
	what := "restore routes of link " + l.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	for _, body := range s.Routes {
		m := newMsg(unix.RTM_NEWROUTE, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		m.b = append(m.b, body[:8]...)
		m.u32s(native32(body[8:]) & unix.RTNH_F_ONLINK) // the rest is what the kernel says of it
		attrs(body[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
			switch typ {
			case unix.RTA_OIF:
				m.u32(typ, uint32(l.Index))
			case unix.RTA_CACHEINFO:
			default:
				m.attr(typ, data)
			}
		})
		if err := h.conn.do(m); !isExist(err) {
			errs = append(errs, err)
		}
	}
	return failure(what, errors.Join(errs...))
}

// ownSysctls returns the settings of a link that differ from those that links
// get at first.
func (h *Handle) ownSysctls(name string) (map[string]string, error) {
	var own map[string]string
	err := h.inside(func() error {
		for _, fam := range []string{"net/ipv4/conf/", "net/ipv6/conf/"} {
			files, err := os.ReadDir("/proc/sys/" + fam + name)
			if err != nil { // no IPv6, or an MTU too small for it
				continue
			}
			for _, f := range files {
				// Some are there to be written only, and the MTU is the link's.
				is, err1 := os.ReadFile(filepath.Join("/proc/sys", fam, name, f.Name()))
				first, err2 := os.ReadFile(filepath.Join("/proc/sys", fam, "default", f.Name()))
				if err1 != nil || err2 != nil || f.Name() == "mtu" || string(is) == string(first) {
					continue
				}
				if own == nil {
					own = map[string]string{}
				}
				own[fam+"IFNAME/"+f.Name()] = strings.TrimSpace(string(is))
			}
		}
		return nil
	})
	return own, err
}
