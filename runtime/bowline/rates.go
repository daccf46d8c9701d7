package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/bowline-net/bowline"
)

// rateFlags are what the command line says of rates, in the order of
// [bowline.RateKeys].
type rateFlags [4]string

func (r *rateFlags) names() [4]string {
	return [...]string{"ingress", "ingress-burst", "egress", "egress-burst"}
}

// add puts the flags into f.
func (r *rateFlags) add(f *pflag.FlagSet) {
	for i, usage := range []string{
		"`RATE` towards the container", "`BITS` that may come at once (default: what suits the rate)",
		"`RATE` from the container", "`BITS` that may go at once (default: what suits the rate)",
	} {
		f.StringVar(&r[i], r.names()[i], "", usage)
	}
}

// given returns those that were given, by their keys.
func (r *rateFlags) given(f *pflag.FlagSet) (map[string]string, error) {
	rates := map[string]string{}
	for i, flag := range r.names() {
		if !f.Changed(flag) {
			continue
		}
		if _, err := bowline.ParseRate(r[i]); err != nil {
			return nil, usageError{fmt.Errorf("--%s %w", flag, err)}
		}
		rates[bowline.RateKeys()[i]] = r[i]
	}
	return rates, nil
}
