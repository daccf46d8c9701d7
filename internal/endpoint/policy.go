package endpoint

import (
	"flag"
	"fmt"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
)

// PolicyUsage says what is right as the value of policy.
const PolicyUsage = "`RULES` such as \"allow ingress tcp 80,443; deny ingress\": whom containers may talk to"

// PolicyFlag adds the key, which faces read: a driver gets the rules of networks
// and endpoints as one list.
func PolicyFlag(fs *flag.FlagSet, rules *string) { fs.StringVar(rules, "policy", "", PolicyUsage) }

// CheckPolicy tells wrong rules, which the flag cannot tell in detail.
func CheckPolicy(place, rules string) error {
	if rules == "" {
		return nil
	}
	_, err := bowline.ParsePolicy(place, rules)
	return err
}

// Resolved tells whether all rules say whom they are about.
func Resolved(endpoint string, policy []bowline.PolicyRule) error {
	if i := slices.IndexFunc(policy, func(r bowline.PolicyRule) bool { return r.Network != "" && len(r.Peers) == 0 }); i >= 0 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("endpoint %q: policy: rule %d %q: want the prefixes of the network", endpoint, i+1, policy[i]))
	}
	return nil
}

// PolicyCounts returns how often each rule of the endpoint's policy decided, and
// last what none did.
func PolicyCounts(e bowline.EndpointSpec, hits []nft.Hit) []bowline.PolicyCount {
	if len(e.Policy) == 0 {
		return nil
	}
	var names []string
	for _, r := range e.Policy {
		names = append(names, r.String())
	}
	names = append(names, "otherwise allow ingress", "otherwise allow egress")
	counts := make([]bowline.PolicyCount, len(names))
	for i, name := range names {
		counts[i].Rule = name
		if i < len(hits) {
			counts[i].Packets, counts[i].Bytes = hits[i].Packets, hits[i].Bytes
		}
	}
	return counts
}
