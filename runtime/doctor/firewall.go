package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A chain is what nft says of a base chain. An accept in one table does not
// overrule a drop in another.
type chain struct {
	Family, Table, Name, Type, Hook, Policy string
}

// firewall finds out who else has rules, and whether theirs drop what containers
// send.
func (d *doctor) firewall(ctx context.Context) {
	chains, err := nftChains(ctx)
	if err != nil {
		d.say(Note, "could not look into nftables: "+err.Error(), installFix(err, "nftables"))
	}
	d.owners(chains)
	var drops []string
	docker := false
	for _, c := range chains {
		docker = docker || c.Name == "DOCKER-USER"
		if c.Hook == "forward" && c.Policy == "drop" && c.Table != "bowline" {
			drops = append(drops, fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name))
		}
	}
	legacy, legacyDocker := d.legacy(ctx)
	docker = docker || legacyDocker
	drops = append(drops, legacy...)
	firewalld, ufw := d.firewalld(), d.ufw()
	for _, where := range drops {
		switch {
		case docker:
			d.say(Note, where+" drops by policy, set by Docker; bowline-bridge makes room in DOCKER-USER", "")
		case firewalld:
			d.say(Warn, where+" drops by policy, set by firewalld", "firewall-cmd --permanent --zone=trusted --add-interface=BRIDGE; firewall-cmd --reload")
		case ufw:
			d.say(Warn, where+" drops by policy, set by ufw", "ufw route allow in on BRIDGE; ufw route allow out on BRIDGE")
		default:
			d.say(Warn, where+" drops by policy, so containers reach nothing outside their network", "add a rule there that accepts packets from and to the bridges, or change its policy")
		}
	}
	if len(drops) == 0 {
		d.say(OK, "nobody drops forwarded packets by policy", "")
	}
}

// owners names the tables of others and what keeps them.
func (d *doctor) owners(chains []chain) {
	var tables []string
	seen := map[string]bool{}
	for _, c := range chains {
		name := c.Family + " " + c.Table
		if c.Table != "bowline" && !seen[name] {
			seen[name] = true
			tables = append(tables, name)
		}
	}
	if len(tables) > 0 {
		d.say(Note, "tables of others: "+strings.Join(tables, ", "), "")
	}
	if d.firewalld() {
		d.say(Note, "firewalld is running; bowline-bridge puts bridges into its zone trusted, which a reload of it undoes until the network's next container", "to make it last: firewall-cmd --permanent --zone=trusted --add-interface=BRIDGE")
	}
	if d.ufw() {
		d.say(Note, "ufw is enabled", "")
	}
}

func (d *doctor) firewalld() bool {
	pid := d.host.read("/run/firewalld.pid")
	return pid != "" && strings.Contains(d.host.read("/proc/"+pid+"/cmdline"), "firewalld")
}

func (d *doctor) ufw() bool {
	return strings.Contains("\n"+d.host.read("/etc/ufw/ufw.conf"), "\nENABLED=yes")
}

// nftChains returns all chains, those of iptables-nft as well.
func nftChains(ctx context.Context) ([]chain, error) {
	out, err := output(ctx, "nft", "-j", "list", "chains")
	if err != nil {
		return nil, err
	}
	var list struct {
		Nftables []struct{ Chain *chain }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("nft -j list chains: %w", err)
	}
	var chains []chain
	for _, item := range list.Nftables {
		if item.Chain != nil {
			chains = append(chains, *item.Chain)
		}
	}
	return chains, nil
}

// legacy looks at iptables of the old kind, which the kernel runs beside
// nftables, and which iptables-nft does not show.
func (d *doctor) legacy(ctx context.Context) (drops []string, docker bool) {
	for _, f := range []struct{ names, command string }{
		{"/proc/net/ip_tables_names", "iptables-legacy"},
		{"/proc/net/ip6_tables_names", "ip6tables-legacy"},
	} {
		tables := strings.Fields(d.host.read(f.names))
		if len(tables) == 0 {
			continue // and asking would load them
		}
		out, err := output(ctx, f.command, "-t", "filter", "-S")
		if err != nil {
			d.say(Note, "could not look into iptables: "+err.Error(), installFix(err, "iptables"))
			continue
		}
		d.say(Note, f.command+" is in use, tables "+strings.Join(tables, ", "), "")
		for line := range strings.Lines(out) {
			switch strings.TrimSpace(line) {
			case "-P FORWARD DROP":
				drops = append(drops, f.command+" filter FORWARD")
			case "-N DOCKER-USER":
				docker = true
			}
		}
	}
	return drops, docker
}

func installFix(err error, pkg string) string {
	if errors.Is(err, errMissing) {
		return "apt-get install " + pkg
	}
	return ""
}
