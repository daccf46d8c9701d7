package main

import (
	"flag"

	"github.com/bowline-net/bowline"
)

// rateFlags puts the keys of rates into a grammar: of a network, whose endpoints
// have them unless they have their own, or of an endpoint. The faces read them
// into EndpointSpec.Rates; here they are looked at only, so that a wrong one is
// told before anything is done.
func rateFlags(fs *flag.FlagSet) {
	check := func(s string) error {
		_, err := bowline.ParseRate(s)
		return err
	}
	fs.Func("ingressRate", "`RATE` towards the container in bit/s, such as 100mbit (0: no limit)", check)
	fs.Func("ingressBurst", "`BITS` that may come at once (default: what suits the rate)", check)
	fs.Func("egressRate", "`RATE` from the container in bit/s, such as 100mbit (0: no limit)", check)
	fs.Func("egressBurst", "`BITS` that may go at once (default: what suits the rate)", check)
}
