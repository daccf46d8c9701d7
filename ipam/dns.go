package ipam

import (
	"fmt"
	"os"
	"strings"
)

// DNS is what a resolv.conf(5) says.
type DNS struct {
	Nameservers []string
	Domain      string
	Search      []string
	Options     []string
}

// ReadDNS reads the file at path; an empty path is no DNS at all.
func ReadDNS(path string) (DNS, error) {
	if path == "" {
		return DNS{}, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return DNS{}, fmt.Errorf("ipam: resolvConf: %w", err)
	}
	return parseDNS(string(data)), nil
}

// parseDNS keeps to the reference: the last domain and all of the rest count.
func parseDNS(text string) DNS {
	var d DNS
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			d.Nameservers = append(d.Nameservers, fields[1])
		case "domain":
			d.Domain = fields[1]
		case "search":
			d.Search = append(d.Search, fields[1:]...)
		case "options":
			d.Options = append(d.Options, fields[1:]...)
		}
	}
	return d
}
