package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/bowline-net/bowline"
)

var routeKeys = [...]string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"} // read only

func (s section) routes() ([]bowline.Route, error) {
	const want = `a list of routes such as [{"dst": "0.0.0.0/0"}]`
	var list []section
	if err := decode("routes", s.get("routes"), &list, want); err != nil {
		return nil, err
	}
	var routes []bowline.Route
	for i, sec := range list {
		place := fmt.Sprintf("routes[%d].", i)
		if err := sec.known(place, routeKeys[:]); err != nil {
			return nil, err
		}
		r, err := sec.route(place)
		if err != nil {
			return nil, err
		}
		routes = append(routes, r)
	}
	return routes, nil
}

func (s section) route(place string) (bowline.Route, error) {
	var r bowline.Route
	dst, err := s.text("dst")
	if err != nil {
		return r, bowline.Wrong(bowline.ErrInvalid, place+err.Error())
	}
	if r.Dst, err = netip.ParsePrefix(dst); err != nil || r.Dst.Addr().Is4In6() {
		return r, wrong(place+"dst", dst, "an IP prefix such as 0.0.0.0/0")
	}
	r.Dst = r.Dst.Masked()
	gw, err := s.text("gw")
	if err != nil {
		return r, bowline.Wrong(bowline.ErrInvalid, place+err.Error())
	}
	if gw != "" {
		if r.Via, err = addrOf(place+"gw", gw); err != nil {
			return r, err
		}
		if r.Via.Is4() != r.Dst.Addr().Is4() {
			return r, wrong(place+"gw", gw, "an address of the family of "+r.Dst.String())
		}
	}
	for _, f := range []struct {
		key string
		set func(int)
	}{
		{"mtu", func(n int) { r.MTU = n }},
		{"advmss", func(n int) { r.AdvMSS = n }},
		{"priority", func(n int) { r.Priority = n }},
		{"table", func(n int) { r.Table = &n }},
		{"scope", func(n int) { r.Scope = &n }},
	} {
		if err := s.number(place, f.key, f.set); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (s section) number(place, key string, set func(int)) error {
	raw := s.get(key)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var n uint32 // as netlink has it
	if err := json.Unmarshal(raw, &n); err != nil {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s%s=%s: want a whole number, 0 to 4294967295", place, key, shorten(raw)))
	}
	set(int(n))
	return nil
}

// nearest returns the key that takes the fewest edits to become k.
func nearest(k string, keys []string) string {
	best, least := "", 1<<30
	for _, known := range keys {
		if d := edits(k, known); d < least {
			best, least = known, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
