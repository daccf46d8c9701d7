package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// A section is the object "ipam", or one range of it: its keys and values.
// Keys are told apart as encoding/json does, regardless of case.
type section map[string]json.RawMessage

var ( // read only
	rangeKeys   = [...]string{"subnet", "rangeStart", "rangeEnd", "gateway"}
	sectionKeys = [...]string{
		"type", "name", "ranges", "routes", "dataDir", "resolvConf", "exclude", "cooldown", "quarantine", "sticky",
		"subnet", "rangeStart", "rangeEnd", "gateway",
	}
)

func readSection(raw json.RawMessage) (section, error) {
	s := section{}
	if err := decode("ipam", raw, &s, `an object such as {"type": "bowline-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}]]}`); err != nil {
		return nil, err
	}
	if len(s) == 0 {
		return nil, bowline.Wrong(bowline.ErrInvalid, `there is no section "ipam"; want one such as {"type": "bowline-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}]]}`)
	}
	return s, s.known("", sectionKeys[:])
}

// known refuses keys that are not of the list. A leading underscore marks a comment.
func (s section) known(place string, keys []string) error {
	var given []string
	for k := range s {
		given = append(given, k)
	}
	slices.Sort(given) // the same error each time
	for _, k := range given {
		if strings.HasPrefix(k, "_") || slices.ContainsFunc(keys, func(known string) bool { return strings.EqualFold(k, known) }) {
			continue
		}
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s%s: there is no such key; the nearest is %s", place, k, nearest(k, keys)))
	}
	return nil
}

func (s section) get(key string) json.RawMessage {
	if raw, ok := s[key]; ok {
		return raw
	}
	for k, raw := range s {
		if strings.EqualFold(k, key) {
			return raw
		}
	}
	return nil
}

func (s section) text(key string) (string, error) {
	var text string
	err := decode(key, s.get(key), &text, "a string")
	return text, err
}

// flag reads a truth value, which may be a string, as some tools write.
func (s section) flag(key string, otherwise bool) (bool, error) {
	raw := s.get(key)
	switch strings.Trim(string(raw), `"`) {
	case "", "null":
		return otherwise, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want true or false", key, shorten(raw)))
}

func (s section) cooldown() (time.Duration, error) {
	raw := s.get("cooldown")
	if len(raw) == 0 || string(raw) == "null" {
		return DefaultCooldown, nil
	}
	n, err := strconv.ParseUint(strings.Trim(string(raw), `"`), 10, 32)
	if err != nil || n > uint64(maxCooldown/time.Second) {
		return 0, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("cooldown=%s: want whole seconds, 0 to %d", shorten(raw), maxCooldown/time.Second))
	}
	return time.Duration(n) * time.Second, nil
}

// quarantine reads a time with its unit, or seconds as cooldown has them. Zero
// is the default.
func (s section) quarantine() (time.Duration, error) {
	raw := s.get("quarantine")
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	text := strings.Trim(string(raw), `"`)
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseUint(text, 10, 32); nerr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 || d > maxCooldown {
		return 0, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(`quarantine=%s: want a time such as "10m" or seconds, above 0 and at most %d`, shorten(raw), maxCooldown/time.Second))
	}
	return d, nil
}

func (s section) exclude() ([]netip.Prefix, error) {
	var texts []string
	if err := decode("exclude", s.get("exclude"), &texts, `a list such as ["10.1.0.64/26", "10.1.0.7"]`); err != nil {
		return nil, err
	}
	var ps []netip.Prefix
	for i, text := range texts {
		key := fmt.Sprintf("exclude[%d]", i)
		if !strings.Contains(text, "/") {
			a, err := addrOf(key, text)
			if err != nil {
				return nil, err
			}
			ps = append(ps, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, wrong(key, text, "an IP prefix such as 10.1.0.64/26, or an address")
		}
		ps = append(ps, p.Masked())
	}
	return ps, nil
}

// sets reads the single range, ranges, and those of the runtime, which come first.
func (s section) sets(ofRuntime json.RawMessage) ([]Set, error) {
	sets, err := setsOf("runtimeConfig.ipRanges", ofRuntime)
	if err != nil {
		return nil, err
	}
	if raw := s.get("subnet"); len(raw) > 0 && string(raw) != "null" {
		r, err := s.rangeOf("")
		if err != nil {
			return nil, err
		}
		sets = append(sets, Set{r})
	}
	more, err := setsOf("ranges", s.get("ranges"))
	return append(sets, more...), err
}

func setsOf(key string, raw json.RawMessage) ([]Set, error) {
	var lists [][]section
	if err := decode(key, raw, &lists, `a list of lists such as [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]`); err != nil {
		return nil, err
	}
	var sets []Set
	for i, list := range lists {
		set := make(Set, 0, len(list))
		for j, sec := range list {
			place := fmt.Sprintf("%s[%d][%d].", key, i, j)
			if err := sec.known(place, rangeKeys[:]); err != nil {
				return nil, err
			}
			r, err := sec.rangeOf(place)
			if err != nil {
				return nil, err
			}
			set = append(set, r)
		}
		if len(set) == 0 {
			return nil, wrong(fmt.Sprintf("%s[%d]", key, i), "[]", `at least one range such as [{"subnet": "10.1.0.0/24"}]`)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// rangeOf reads one range. As in the reference its gateway is the first host
// unless it says another.
func (s section) rangeOf(place string) (Range, error) {
	text, err := s.text("subnet")
	if err != nil {
		return Range{}, bowline.Wrong(bowline.ErrInvalid, place+err.Error())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Range{}, wrong(place+"subnet", text, "an IP prefix such as 10.1.0.0/24")
	}
	r := Range{Subnet: p}
	for _, f := range []struct {
		key string
		to  *netip.Addr
	}{{"rangeStart", &r.Start}, {"rangeEnd", &r.End}, {"gateway", &r.Gateway}} {
		text, err := s.text(f.key)
		if err != nil {
			return r, bowline.Wrong(bowline.ErrInvalid, place+err.Error())
		}
		if text == "" {
			continue
		}
		if *f.to, err = netip.ParseAddr(text); err != nil || f.to.Zone() != "" {
			return r, wrong(place+f.key, text, "an address of "+p.String())
		}
		*f.to = f.to.Unmap()
	}
	if err := r.validate(place); err != nil {
		return r, err
	}
	if !r.Gateway.IsValid() {
		r.Gateway = p.Addr().Next()
	}
	return r, nil
}
