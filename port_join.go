package bowline

import (
	"cmp"
	"slices"
)

// JoinPorts returns the mappings in one order, those that follow one another as
// rows, and without those that are there twice: engines tell rows port by port,
// in any order.
func JoinPorts(ms []PortMapping) []PortMapping {
	sorted := slices.SortedFunc(slices.Values(ms), func(a, b PortMapping) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.HostIP.Compare(b.HostIP),
			cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.HostPortEnd, b.HostPortEnd), cmp.Compare(a.Port, b.Port))
	})
	var rows []PortMapping
	for _, m := range slices.Compact(sorted) {
		if n := len(rows); n > 0 && rows[n-1].precedes(m) {
			rows[n-1].Count = uint16(rows[n-1].Ports() + m.Ports())
			continue
		}
		rows = append(rows, m)
	}
	return rows
}

// precedes reports whether o begins where the row m ends.
func (m PortMapping) precedes(o PortMapping) bool {
	n := m.Ports()
	return m.Protocol == o.Protocol && m.HostIP == o.HostIP && m.HostPort != 0 && m.HostPortEnd == 0 && o.HostPortEnd == 0 &&
		int(o.HostPort) == int(m.HostPort)+n && int(o.Port) == int(m.Port)+n
}
