package link

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/plan"
)

// get answers a question from what is there and what would be.
func (s *space) get(c *conn, m *msg, dump bool, f func(body []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.typ() == unix.RTM_GETLINK && dump && m.attr1(unix.IFLA_TARGET_NETNSID) != nil && !s.empty:
		return c.ask(m, dump, f)
	case m.typ() == unix.RTM_GETLINK && dump && m.b[headerLen] == unix.AF_UNSPEC:
		for _, body := range s.links(c) {
			f(body)
		}
		return nil
	case m.typ() == unix.RTM_GETLINK && !dump:
		index := s.target(c, m)
		if index == 0 {
			return &kernelError{errno: unix.ENODEV}
		}
		for _, body := range s.links(c) {
			if int(native32(body[4:])) == index {
				f(body)
			}
		}
		return nil
	case m.typ() == unix.RTM_GETADDR:
		index := int(native32(m.b[headerLen+4:]))
		for _, body := range s.addrsAt(c, index) {
			f(body)
		}
		return nil
	case s.empty:
		return nil
	case m.typ() >= unix.RTM_GETQDISC && s.made[int(native32(m.b[headerLen+4:]))] != nil:
		return nil // what is new has none
	}
	return c.ask(m, dump, f)
}

// links returns all links as they would be.
func (s *space) links(c *conn) [][]byte {
	var all [][]byte
	if !s.empty {
		m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
		_ = c.ask(m, true, func(body []byte) {
			body = append([]byte{}, body...)
			index := int(native32(body[4:]))
			for _, change := range s.set[index] {
				body = merged(body, change)
			}
			if !s.gone[index] {
				all = append(all, body)
			}
		})
	}
	for i := 1 << 24; i <= s.next; i++ {
		if body := s.made[i]; body != nil {
			all = append(all, body)
		}
	}
	return all
}

// target returns the index of the link that a message is about, 0 if none.
func (s *space) target(c *conn, m *msg) int {
	if index := int(int32(native32(m.b[headerLen+4:]))); index != 0 {
		return index
	}
	return s.indexOf(c, m.text(unix.IFLA_IFNAME))
}

func (s *space) indexOf(c *conn, name string) int {
	for _, body := range s.links(c) {
		if name != "" && nameOf(body) == name {
			return int(native32(body[4:]))
		}
	}
	return 0
}

// nameAt is the name of the link with that index.
func (s *space) nameAt(c *conn, index int) string {
	for _, body := range s.links(c) {
		if int(native32(body[4:])) == index {
			return nameOf(body)
		}
	}
	return fmt.Sprintf("if%d", index)
}

func nameOf(body []byte) (name string) {
	attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ == unix.IFLA_IFNAME {
			name = unix.ByteSliceToString(data)
		}
	})
	return name
}

// sysctl returns what the setting would have; ok is false if it is that of a
// link that is not there yet, or of a namespace that is not.
func (s *space) sysctl(key string) (value string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, set := s.ctls[key]; set {
		return v, true
	}
	if s.empty {
		return "", false
	}
	err := (&Handle{ns: s.ns}).inside(func() error {
		data, err := os.ReadFile("/proc/sys/" + key)
		value = string(data)
		return err
	})
	return value, err == nil
}

// setSysctl writes the setting down.
func (s *space) setSysctl(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctls[key] = value
	s.Plan.Add(plan.Sysctl, s.name, "%s=%s", key, value)
}
